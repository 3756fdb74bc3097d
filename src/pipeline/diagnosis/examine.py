"""Collect the inputs of a diagnosis: read the journal, and evaluate the best weights and nearest neighbours."""

import math
from collections import Counter

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.data.datamodule import DataModule
from pipeline.data.dataset import Split, Splits
from pipeline.data.duplicates import row_digests, sample_digests
from pipeline.data.loader import EvaluationLoader
from pipeline.data.splitting import stratified_fraction
from pipeline.diagnosis.inputs import DiagnosisInputs, DuplicateCount, PredictorOutputs, SplitOutputs
from pipeline.errors import RunError
from pipeline.lifecycle.build import Components
from pipeline.lifecycle.final_test import best_checkpoint
from pipeline.lifecycle.load_run import load_run
from pipeline.reports.report_data import ReportData
from pipeline.runs.run_directory import Run
from pipeline.spec import DataSpec
from pipeline.tracking import journal
from pipeline.training import checkpoints
from pipeline.training.distributed.sharding import load_weights
from pipeline.training.learner import Learner

# Nearest neighbours are a reference that was not trained, and so cannot overfit. For training samples the sample
# itself is left out (Cover & Hart 1967; leave one out).

# N training samples, M queries, F features, K classes, k neighbours

NEIGHBOURS = 10
LARGEST_SIDE = 16  # pixels; finer pictures would differ by exact positions
BUCKETS = 4096  # of token numbers
QUERIES_AT_A_TIME = 1024  # bounds the memory


def neighbour_outputs(
    train: Split, validation: Split, spec: DataSpec, scale: nn.Module, ids: Tensor
) -> PredictorOutputs:
    """Predict by neighbours; `scale` standardizes raw inputs, and `ids` (N,) are the rows of the training samples."""
    known, queries = (feature_vectors(part, spec, scale) for part in (train, validation))
    around = nearest_rows(known, known, without_itself=True), nearest_rows(queries, known, without_itself=False)
    votes = _means if spec.task == "regression" else _shares
    return PredictorOutputs(
        votes(train.targets[around[0]], train, spec, ids),
        votes(train.targets[around[1]], validation, spec, torch.arange(len(validation))),
    )


@torch.no_grad()
def feature_vectors(part: Split, spec: DataSpec, scale: nn.Module) -> Tensor:
    """Return (N, F) features, whose distances measure similarity."""
    batches = EvaluationLoader(part, batch_size=QUERIES_AT_A_TIME)
    if spec.kind == "text":
        return _weighted(torch.cat([_counted(batch.inputs) for batch in batches]))
    return torch.cat([_pooled(scale(batch.inputs)).flatten(1).float() for batch in batches])


def _pooled(scaled: Tensor) -> Tensor:
    """Shrink pictures and spectrograms (B, C, H, W); return rows of a table (B, F) as they are."""
    if scaled.ndim != 4:
        return scaled
    height, width = scaled.shape[2:]
    return F.adaptive_avg_pool2d(scaled, (min(height, LARGEST_SIDE), min(width, LARGEST_SIDE)))


def _counted(inputs: Tensor) -> Tensor:
    """Count the words of sentences (B, tokens)."""
    tokens = inputs.long()
    return torch.zeros(len(tokens), BUCKETS).scatter_add_(1, tokens % BUCKETS, (tokens > 0).float())


def _weighted(counts: Tensor) -> Tensor:
    """Weight rare words higher (Sparck Jones 1972), and normalize the length of sentences."""
    weights = torch.log(len(counts) / (1 + (counts > 0).sum(dim=0)))
    return F.normalize(counts.log1p() * weights.clamp(min=0), dim=1)


def nearest_rows(queries: Tensor, known: Tensor, *, without_itself: bool) -> Tensor:
    """Return (M, k) rows of `known` with the least Euclidean distance."""
    count = min(NEIGHBOURS, len(known) - without_itself)
    found = []
    for first in range(0, len(queries), QUERIES_AT_A_TIME):
        distances = torch.cdist(queries[first : first + QUERIES_AT_A_TIME], known)
        if without_itself:
            rows = torch.arange(len(distances))
            distances[rows, first + rows] = torch.inf
        found.append(distances.topk(count, largest=False).indices)
    return torch.cat(found)


def _shares(labels: Tensor, part: Split, spec: DataSpec, ids: Tensor) -> SplitOutputs:
    """Turn (M, k) labels into (M, K) shares; a class without neighbours has the loss of half a neighbour."""
    votes = F.one_hot(labels, spec.num_classes).float().mean(dim=1)
    given = votes.gather(1, part.targets[:, None]).squeeze(1)
    losses = -given.clamp(min=0.5 / labels.shape[1]).log()
    return SplitOutputs(votes.numpy(), part.targets.numpy(), losses.numpy(), ids.numpy())


def _means(numbers: Tensor, part: Split, spec: DataSpec, ids: Tensor) -> SplitOutputs:
    """Turn (M, k, T) targets of neighbours into their mean (M, T)."""
    predicted, true = numbers.mean(dim=1).numpy(), part.targets.numpy()
    scale = np.array([value if value > 0 else 1.0 for value in spec.target_std])
    losses = np.square((predicted - true) / scale).mean(axis=1)
    return SplitOutputs(predicted, true, losses, ids.numpy())


def count_duplicates(parts: Splits) -> dict[str, DuplicateCount]:
    """Count validation and test samples that occur in training, and training samples that occur there repeatedly."""
    inputs = {name: sample_digests(part) for name, part in parts.by_name().items()}
    whole = {name: _with_answers(inputs[name], part) for name, part in parts.by_name().items()}
    found = {name: _copies(name, inputs, whole) for name in ("validation", "test")}
    counts, answered = Counter(inputs["train"]), Counter(whole["train"])
    twice = sum(count for count in counts.values() if count > 1)
    agreeing = sum(count for count in answered.values() if count > 1)
    return found | {"train": DuplicateCount(twice, agreeing, len(parts.train))}


def _copies(name: str, inputs: dict[str, list[bytes]], whole: dict[str, list[bytes]]) -> DuplicateCount:
    seen, answered = set(inputs["train"]), set(whole["train"])
    alike = sum(each in seen for each in inputs[name])
    return DuplicateCount(alike, sum(each in answered for each in whole[name]), len(inputs[name]))


def _with_answers(inputs: list[bytes], part: Split) -> list[bytes]:
    return [row + answer for row, answer in zip(inputs, row_digests(part.targets[:, None]), strict=True)]


# N samples, K classes

TRAINING_SAMPLES = 10_000  # at most; enough for the precision of every reported share
VALIDATION_SAMPLES = 5_000
NAN_MESSAGE = "the loss is"  # the beginning of StopOnNaN's message


def collect_inputs(run: Run, report: ReportData, data_root: str | None = None) -> tuple[DiagnosisInputs, Components]:
    """Collect the inputs; raise RunError for a running run, UserError if its data is gone."""
    if journal.is_open(run.journal_path):
        raise RunError(
            f"{run.id} is under distance: a diagnosis is for a run that has ended; pipeline logs run={run.id}"
        )
    config, assembly = load_run(run, data_root)
    nan_message = _nan_message(run)
    if not is_supported(assembly):
        return DiagnosisInputs(settings=report.settings, curves=report.curves, nan_message=nan_message), assembly
    return _measure(run, report, config, assembly, nan_message), assembly


def is_supported(assembly: Components) -> bool:
    """Return whether the run has our Learner and DataModule, whose samples and outputs can be read."""
    spec = assembly.spec
    ours = isinstance(assembly.module, Learner) and isinstance(assembly.data, DataModule)
    return ours and spec is not None and spec.task in ("multiclass", "binary", "regression")


def _measure(
    run: Run, report: ReportData, config: DictConfig, assembly: Components, nan_message: str | None
) -> DiagnosisInputs:
    learner, module, spec = assembly.module, assembly.data, assembly.spec
    assert isinstance(learner, Learner) and isinstance(module, DataModule) and spec is not None
    parts = module.splits
    train, train_rows = _subsample(parts.train, TRAINING_SAMPLES)
    validation, validation_rows = _subsample(parts.validation, VALIDATION_SAMPLES)
    network = learner.network
    neighbours = neighbour_outputs(train, validation, spec, network.get_submodule("standardize"), train_rows)
    initial = {name: value.detach().clone() for name, value in network.named_parameters() if value.requires_grad}
    checkpoint = best_checkpoint(run)
    outputs = None
    if checkpoint is not None:
        load_weights(learner, checkpoints.evaluation_weights(checkpoints.load_checkpoint(checkpoint)))
        outputs = PredictorOutputs(
            _network_outputs(learner, train, train_rows, module.evaluation_batch_size),
            _network_outputs(learner, validation, validation_rows, module.evaluation_batch_size),
        )
    classes = len(spec.class_names)
    return DiagnosisInputs(
        settings=report.settings,
        curves=report.curves,
        kind=spec.kind,
        class_names=tuple(spec.class_names),
        network=outputs,
        neighbours=neighbours,
        duplicates=count_duplicates(parts),
        counts=np.bincount(parts.train.targets.numpy(), minlength=classes) if classes else np.zeros(0, dtype=np.int64),
        weight_change=_weight_change(network, initial) if checkpoint is not None and config.init_from is None else None,
        nan_message=nan_message,
    )


def _subsample(part: Split, count: int) -> tuple[Split, Tensor]:
    """Return a stratified subset, the same every time, and its rows."""
    if len(part) <= count:
        return part, torch.arange(len(part))
    rows = torch.from_numpy(stratified_fraction(part.strata, count / len(part)))
    return part.rows(rows), rows


@torch.no_grad()
def _network_outputs(learner: Learner, part: Split, rows: Tensor, batch_size: int) -> SplitOutputs:
    learner.network.eval()
    loader = EvaluationLoader(part, batch_size=batch_size)
    scores = torch.cat([learner.network(batch.inputs).float() for batch in loader])
    outputs = learner.task.predictions(scores)
    is_classification = part.targets.ndim == 1
    return SplitOutputs(
        outputs=(outputs.softmax(dim=1) if is_classification else outputs).numpy(),
        targets=part.targets.numpy(),
        losses=learner.task.losses(scores, part.targets).numpy(),
        ids=rows.numpy(),
    )


@torch.no_grad()
def _weight_change(network: nn.Module, initial: dict[str, Tensor]) -> float:
    now = dict(network.named_parameters())
    distance = sum(float((now[name] - before).square().sum()) for name, before in initial.items())
    length = sum(float(before.square().sum()) for before in initial.values())
    return math.sqrt(distance / max(length, 1e-12))


def _nan_message(run: Run) -> str | None:
    """Return the error message of a training that a NaN or infinite loss ended."""
    ends = [record for record, _ in journal.read_journal(run.journal_path) if record["kind"] == "end"]
    error = str(ends[-1].get("error") or "") if ends else ""
    lines = [line for line in error.splitlines() if NAN_MESSAGE in line]
    return lines[-1].partition(": ")[2] or lines[-1] if lines else None
