"""From a run directory to its symptoms: what the journal does not hold is measured with the best weights."""

import math

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from pipeline.data.datamodule import DataModule
from pipeline.data.dataset import Split
from pipeline.data.loader import EvaluationLoader
from pipeline.data.splitting import fraction_of
from pipeline.diagnosis.copies import copies
from pipeline.diagnosis.neighbours import by_neighbours
from pipeline.diagnosis.symptoms import Pair, Scored, Symptoms
from pipeline.errors import RunError
from pipeline.lifecycle.build import Assembly
from pipeline.lifecycle.final_test import best_checkpoint
from pipeline.lifecycle.load_run import reassemble
from pipeline.reports.report_data import Evidence
from pipeline.runs.run_directory import Run
from pipeline.tracking import journal
from pipeline.training import checkpoints
from pipeline.training.learner import Learner
from pipeline.training.sharding import load_weights

# N samples, K classes

TRAINING_SAMPLES = 10_000  # that are looked at, at most: enough for every share that is told
VALIDATION_SAMPLES = 5_000
NO_NUMBER = "the loss is"  # how StopOnNaN begins


def examine(run: Run, evidence: Evidence, data_root: str | None = None) -> tuple[Symptoms, Assembly]:
    """Raises RunError for a run that is under way, UserError where its data is gone."""
    if journal.is_open(run.journal_path):
        raise RunError(f"{run.id} is under way: a diagnosis is for a run that has ended; pipeline logs run={run.id}")
    config, assembly = reassemble(run, data_root)
    broke = _broke(run)
    if not can_be_asked(assembly):
        return Symptoms(settings=evidence.settings, curves=evidence.curves, broke=broke), assembly
    return _measured(run, evidence, config, assembly, broke), assembly


def can_be_asked(assembly: Assembly) -> bool:
    """Its samples and scores are ours to read."""
    spec = assembly.spec
    ours = isinstance(assembly.module, Learner) and isinstance(assembly.data, DataModule)
    return ours and spec is not None and spec.task in ("multiclass", "binary", "regression")


def _measured(run: Run, evidence: Evidence, config: DictConfig, assembly: Assembly, broke: str | None) -> Symptoms:
    learner, data, spec = assembly.module, assembly.data, assembly.spec
    assert isinstance(learner, Learner) and isinstance(data, DataModule) and spec is not None
    parts = data.parts
    train, train_rows = _at_most(parts.train, TRAINING_SAMPLES)
    validation, validation_rows = _at_most(parts.validation, VALIDATION_SAMPLES)
    network = learner.network
    neighbours = by_neighbours(train, validation, spec, network.get_submodule("standardize"), train_rows)
    set_out = {name: value.detach().clone() for name, value in network.named_parameters() if value.requires_grad}
    checkpoint = best_checkpoint(run)
    said = None
    if checkpoint is not None:
        load_weights(learner, checkpoints.evaluation_weights(checkpoints.load(checkpoint)))
        said = Pair(
            _said(learner, train, train_rows, data.evaluation_batch_size),
            _said(learner, validation, validation_rows, data.evaluation_batch_size),
        )
    classes = len(spec.class_names)
    return Symptoms(
        settings=evidence.settings,
        curves=evidence.curves,
        kind=spec.kind,
        class_names=tuple(spec.class_names),
        network=said,
        neighbours=neighbours,
        copies=copies(parts),
        counts=np.bincount(parts.train.targets.numpy(), minlength=classes) if classes else np.zeros(0, dtype=np.int64),
        moved=_moved(network, set_out) if checkpoint is not None and config.init_from is None else None,
        broke=broke,
    )


def _at_most(part: Split, count: int) -> tuple[Split, Tensor]:
    """A stratified share of it, the same every time, and its rows."""
    if len(part) <= count:
        return part, torch.arange(len(part))
    rows = torch.from_numpy(fraction_of(part.strata, count / len(part)))
    return part.rows(rows), rows


@torch.no_grad()
def _said(learner: Learner, part: Split, rows: Tensor, batch_size: int) -> Scored:
    learner.network.eval()
    loader = EvaluationLoader(part, batch_size=batch_size)
    scores = torch.cat([learner.network(batch.inputs).float() for batch in loader])
    answers = learner.task.answers(scores)
    is_of_classes = part.targets.ndim == 1
    return Scored(
        answers=(answers.softmax(dim=1) if is_of_classes else answers).numpy(),
        targets=part.targets.numpy(),
        losses=learner.task.losses(scores, part.targets).numpy(),
        ids=rows.numpy(),
    )


@torch.no_grad()
def _moved(network: nn.Module, set_out: dict[str, Tensor]) -> float:
    now = dict(network.named_parameters())
    way = sum(float((now[name] - before).square().sum()) for name, before in set_out.items())
    length = sum(float(before.square().sum()) for before in set_out.values())
    return math.sqrt(way / max(length, 1e-12))


def _broke(run: Run) -> str | None:
    """The last words of a training whose loss was no number."""
    ends = [record for record, _ in journal.read(run.journal_path) if record["kind"] == "end"]
    error = str(ends[-1].get("error") or "") if ends else ""
    lines = [line for line in error.splitlines() if NO_NUMBER in line]
    return lines[-1].partition(": ")[2] or lines[-1] if lines else None
