"""From a run directory to its symptoms: what the journal does not hold is measured with the best weights."""

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

# What the nearest training samples say of a sample: a judge that has learned nothing, and so nothing by heart.
#
# Of a training sample it is asked without that sample (Cover & Hart 1967; leave one out).

# N training samples, M asked about, F features, K classes, k neighbours

NEIGHBOURS = 10
LARGEST_SIDE = 16  # pixels; what is finer tells pictures apart by where exactly things stand
BUCKETS = 4096  # of words, by their numbers
ASKED_AT_A_TIME = 1024  # bounds the memory


def neighbour_outputs(
    train: Split, validation: Split, spec: DataSpec, scale: nn.Module, ids: Tensor
) -> PredictorOutputs:
    """`scale` brings raw inputs to their standard deviations; `ids` (N,) are the rows of the training samples."""
    known, asked = (feature_vectors(part, spec, scale) for part in (train, validation))
    around = nearest_rows(known, known, without_itself=True), nearest_rows(asked, known, without_itself=False)
    votes = _means if spec.task == "regression" else _shares
    return PredictorOutputs(
        votes(train.targets[around[0]], train, spec, ids),
        votes(train.targets[around[1]], validation, spec, torch.arange(len(validation))),
    )


@torch.no_grad()
def feature_vectors(part: Split, spec: DataSpec, scale: nn.Module) -> Tensor:
    """(N, F) whose distances say how alike samples are."""
    batches = EvaluationLoader(part, batch_size=ASKED_AT_A_TIME)
    if spec.kind == "text":
        return _weighted(torch.cat([_counted(batch.inputs) for batch in batches]))
    return torch.cat([_pooled(scale(batch.inputs)).flatten(1).float() for batch in batches])


def _pooled(scaled: Tensor) -> Tensor:
    """Pictures and spectrograms (B, C, H, W), made small; rows of a table (B, F) as they are."""
    if scaled.ndim != 4:
        return scaled
    height, width = scaled.shape[2:]
    return F.adaptive_avg_pool2d(scaled, (min(height, LARGEST_SIDE), min(width, LARGEST_SIDE)))


def _counted(inputs: Tensor) -> Tensor:
    """Of sentences (B, tokens): how often each word occurs."""
    tokens = inputs.long()
    return torch.zeros(len(tokens), BUCKETS).scatter_add_(1, tokens % BUCKETS, (tokens > 0).float())


def _weighted(counts: Tensor) -> Tensor:
    """Rare words count more (Sparck Jones 1972), and long sentences as much as short ones."""
    weights = torch.log(len(counts) / (1 + (counts > 0).sum(dim=0)))
    return F.normalize(counts.log1p() * weights.clamp(min=0), dim=1)


def nearest_rows(asked: Tensor, known: Tensor, *, without_itself: bool) -> Tensor:
    """(M, k) rows of `known` with the least Euclidean distance."""
    count = min(NEIGHBOURS, len(known) - without_itself)
    found = []
    for first in range(0, len(asked), ASKED_AT_A_TIME):
        distances = torch.cdist(asked[first : first + ASKED_AT_A_TIME], known)
        if without_itself:
            rows = torch.arange(len(distances))
            distances[rows, first + rows] = torch.inf
        found.append(distances.topk(count, largest=False).indices)
    return torch.cat(found)


def _shares(labels: Tensor, part: Split, spec: DataSpec, ids: Tensor) -> SplitOutputs:
    """(M, k) labels of the neighbours -> (M, K) shares of them; a class that none has costs like half a neighbour."""
    votes = F.one_hot(labels, spec.num_classes).float().mean(dim=1)
    given = votes.gather(1, part.targets[:, None]).squeeze(1)
    losses = -given.clamp(min=0.5 / labels.shape[1]).log()
    return SplitOutputs(votes.numpy(), part.targets.numpy(), losses.numpy(), ids.numpy())


def _means(numbers: Tensor, part: Split, spec: DataSpec, ids: Tensor) -> SplitOutputs:
    """(M, k, T) numbers of the neighbours -> (M, T) their mean."""
    predicted, true = numbers.mean(dim=1).numpy(), part.targets.numpy()
    scale = np.array([value if value > 0 else 1.0 for value in spec.target_std])
    losses = np.square((predicted - true) / scale).mean(axis=1)
    return SplitOutputs(predicted, true, losses, ids.numpy())


def count_duplicates(parts: Splits) -> dict[str, DuplicateCount]:
    """Of the validation and the test part in the training part; and of training samples that stand there twice."""
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

TRAINING_SAMPLES = 10_000  # that are looked at, at most: enough for every share that is told
VALIDATION_SAMPLES = 5_000
NO_NUMBER = "the loss is"  # how StopOnNaN begins


def collect_inputs(run: Run, evidence: ReportData, data_root: str | None = None) -> tuple[DiagnosisInputs, Components]:
    """Raises RunError for a run that is under way, UserError where its data is gone."""
    if journal.is_open(run.journal_path):
        raise RunError(f"{run.id} is under way: a diagnosis is for a run that has ended; pipeline logs run={run.id}")
    config, assembly = load_run(run, data_root)
    broke = _nan_message(run)
    if not is_supported(assembly):
        return DiagnosisInputs(settings=evidence.settings, curves=evidence.curves, broke=broke), assembly
    return _measure(run, evidence, config, assembly, broke), assembly


def is_supported(assembly: Components) -> bool:
    """Its samples and scores are ours to read."""
    spec = assembly.spec
    ours = isinstance(assembly.module, Learner) and isinstance(assembly.data, DataModule)
    return ours and spec is not None and spec.task in ("multiclass", "binary", "regression")


def _measure(
    run: Run, evidence: ReportData, config: DictConfig, assembly: Components, broke: str | None
) -> DiagnosisInputs:
    learner, data, spec = assembly.module, assembly.data, assembly.spec
    assert isinstance(learner, Learner) and isinstance(data, DataModule) and spec is not None
    parts = data.splits
    train, train_rows = _subsample(parts.train, TRAINING_SAMPLES)
    validation, validation_rows = _subsample(parts.validation, VALIDATION_SAMPLES)
    network = learner.network
    neighbours = neighbour_outputs(train, validation, spec, network.get_submodule("standardize"), train_rows)
    set_out = {name: value.detach().clone() for name, value in network.named_parameters() if value.requires_grad}
    checkpoint = best_checkpoint(run)
    said = None
    if checkpoint is not None:
        load_weights(learner, checkpoints.evaluation_weights(checkpoints.load_checkpoint(checkpoint)))
        said = PredictorOutputs(
            _network_outputs(learner, train, train_rows, data.evaluation_batch_size),
            _network_outputs(learner, validation, validation_rows, data.evaluation_batch_size),
        )
    classes = len(spec.class_names)
    return DiagnosisInputs(
        settings=evidence.settings,
        curves=evidence.curves,
        kind=spec.kind,
        class_names=tuple(spec.class_names),
        network=said,
        neighbours=neighbours,
        copies=count_duplicates(parts),
        counts=np.bincount(parts.train.targets.numpy(), minlength=classes) if classes else np.zeros(0, dtype=np.int64),
        moved=_weight_change(network, set_out) if checkpoint is not None and config.init_from is None else None,
        broke=broke,
    )


def _subsample(part: Split, count: int) -> tuple[Split, Tensor]:
    """A stratified share of it, the same every time, and its rows."""
    if len(part) <= count:
        return part, torch.arange(len(part))
    rows = torch.from_numpy(stratified_fraction(part.strata, count / len(part)))
    return part.rows(rows), rows


@torch.no_grad()
def _network_outputs(learner: Learner, part: Split, rows: Tensor, batch_size: int) -> SplitOutputs:
    learner.network.eval()
    loader = EvaluationLoader(part, batch_size=batch_size)
    scores = torch.cat([learner.network(batch.inputs).float() for batch in loader])
    answers = learner.task.predictions(scores)
    is_of_classes = part.targets.ndim == 1
    return SplitOutputs(
        answers=(answers.softmax(dim=1) if is_of_classes else answers).numpy(),
        targets=part.targets.numpy(),
        losses=learner.task.losses(scores, part.targets).numpy(),
        ids=rows.numpy(),
    )


@torch.no_grad()
def _weight_change(network: nn.Module, set_out: dict[str, Tensor]) -> float:
    now = dict(network.named_parameters())
    way = sum(float((now[name] - before).square().sum()) for name, before in set_out.items())
    length = sum(float(before.square().sum()) for before in set_out.values())
    return math.sqrt(way / max(length, 1e-12))


def _nan_message(run: Run) -> str | None:
    """The last words of a training whose loss was no number."""
    ends = [record for record, _ in journal.read_journal(run.journal_path) if record["kind"] == "end"]
    error = str(ends[-1].get("error") or "") if ends else ""
    lines = [line for line in error.splitlines() if NO_NUMBER in line]
    return lines[-1].partition(": ")[2] or lines[-1] if lines else None
