"""Check the samples of a run: duplicates across splits, rare classes, and wrong labels."""

import math

import numpy as np

from pipeline.diagnosis import advice
from pipeline.diagnosis.finding import MARGIN, STANDARD_ERRORS, Finding, SuspectLabel
from pipeline.diagnosis.inputs import DiagnosisInputs, DuplicateCount, PredictorOutputs, SplitOutputs
from pipeline.reports.evaluation_statistics import Floats

# Share of a split; fewer duplicates cannot raise its accuracy by a point.
MIN_DUPLICATES = 0.01
# Rows of a coarse table that are equal by chance differ in target now and then; duplicates never do.
SAME_TARGETS = 0.99
# Relative to an equal share of the samples: a class with less than half of it is rare.
RARE = 0.5
# Probability by chance: one run in a thousand has a class as bad as that.
CHANCE = 1e-3
# Relative to the accuracy on other classes: a rare class with a lower recall is neglected.
NEGLECTED = 0.8
# Share of wrong labels among the clearest samples; hard samples lie near class borders, wrong labels anywhere.
WRONG = 0.04
# Share of samples, those with the highest confidence, where no mistake is expected.
CLEAREST = 0.25
# Relative to mistakes elsewhere: overlapping classes have far fewer among clear samples, wrong labels as many.
AS_ELSEWHERE = 0.5
MOST_SUSPECTS = 24


def leakage(inputs: DiagnosisInputs) -> Finding | None:
    """Find validation or test samples that occur in the training split."""
    found = {
        name: each
        for name, each in inputs.duplicates.items()
        if name != "train" and _is_leak(each, inputs.duplicates["train"])
    }
    if not found:
        return None
    repeated = inputs.duplicates["train"]
    return Finding(
        name="leakage",
        explanation="The network was trained on samples that evaluate it: its metrics are too good.",
        evidence=(
            *(
                f"{each.duplicates:,} of {each.size:,} {name} samples ({each.share:.1%}) also occur in training, "
                f"{each.same_target:,} of them with the same target"
                for name, each in found.items()
            ),
            f"{repeated.duplicates:,} of {repeated.size:,} training samples occur more than once",
        ),
        overrides=("data.on_copies=drop",),
        advice="Without them in the training split the metrics are honest; find out how they came into two splits.",
    )


def _is_leak(part: DuplicateCount, train: DuplicateCount) -> bool:
    if part.duplicates < 2 or part.share < MIN_DUPLICATES:
        return False
    # Samples that are equal within the training split may be equal across splits by chance; only more is a leak.
    spread = math.sqrt(max(train.share * (1 - train.share), 1e-4) / part.size)
    return part.same_target >= SAME_TARGETS * part.duplicates or part.share - train.share >= max(
        MIN_DUPLICATES, STANDARD_ERRORS * spread
    )


def imbalance(inputs: DiagnosisInputs) -> Finding | None:
    """Find rare classes with a far lower recall than the others."""
    if inputs.network is None or not inputs.is_classification:
        return None
    validation, counts = inputs.network.validation, inputs.counts
    shares = counts / counts.sum()
    rows: list[tuple[float, int, int, int]] = []
    for label in np.flatnonzero(shares < RARE / len(counts)).tolist():
        own = validation.targets == label
        hits, size = int(validation.correct[own].sum()), int(own.sum())
        others = float(validation.correct[~own].mean()) if size < len(own) else 0.0
        if size and hits < NEGLECTED * others * size and _at_most(hits, size, others) < CHANCE:
            rows.append((hits / size, label, hits, size))
    if not rows:
        return None
    largest = int(counts.argmax())
    return Finding(
        name="class imbalance",
        explanation="The network neglects rare classes: their mistakes hardly count among so many other samples.",
        evidence=(
            *(
                f"{inputs.class_names[label]}: {counts[label]:,} of {counts.sum():,} training samples "
                f"({shares[label]:.1%}), and {hits} of {size} validation samples found"
                for _, label, hits, size in sorted(rows)[:3]
            ),
            f"{inputs.class_names[largest]}: {shares[largest]:.1%} of the training samples; accuracy over all "
            f"validation samples {validation.mean_score:.1%}",
        ),
        overrides=advice.weigh_rare_classes(inputs),
        advice="Give each class the same weight, however many samples it has.",
    )


def _at_most(hits: int, size: int, chance: float) -> float:
    """Return the probability of at most `hits` hits, by logarithms because the numbers exceed a float."""
    clamped = min(max(chance, 1e-6), 1 - 1e-6)
    of_hit, of_miss = math.log(clamped), math.log1p(-clamped)
    return sum(math.exp(_log_ways(each, size) + each * of_hit + (size - each) * of_miss) for each in range(hits + 1))


def _log_ways(hits: int, size: int) -> float:
    return math.lgamma(size + 1) - math.lgamma(hits + 1) - math.lgamma(size - hits + 1)


def label_noise(inputs: DiagnosisInputs) -> Finding | None:
    """Find wrong labels among the samples that should be the clearest.

    Suspects are those of confident learning (Northcutt et al. 2021): the probability of another class is at least that
    class's mean among its own samples, and the label's probability is below its class's mean.
    """
    reference = _label_reference(inputs)
    if reference is None:
        return None
    name, scored = reference
    clear = scored.confidence >= np.quantile(scored.confidence, 1 - CLEAREST)
    wrong, size = int((~scored.correct[clear]).sum()), int(clear.sum())
    if wrong < AS_ELSEWHERE * size * (1 - scored.mean_score) or _at_most(size - wrong, size, 1 - WRONG) >= CHANCE:
        return None
    suspects = _suspects(scored)
    if not suspects:
        return None
    return Finding(
        name="label noise",
        explanation="Some labels are wrong: samples that should be clear have another label.",
        evidence=(
            f"of the {size:,} training samples that are clearest to {name}, {wrong:,} ({wrong / size:.1%}) "
            "have another label",
            f"{len(suspects):,} of {len(scored.targets):,} training samples ({len(suspects) / len(scored.targets):.1%})"
            " are suspicious",
        ),
        overrides=advice.soften_labels(inputs),
        advice="First look at the suspicious samples below, and correct or remove wrong ones; this lowers the effect "
        "of the others.",
        suspects=tuple(suspects),
    )


def _label_reference(inputs: DiagnosisInputs) -> tuple[str, SplitOutputs] | None:
    """Return the predictor to compare labels with: the neighbours, or a network that is far more accurate.

    It must be far more accurate, because it was trained on these labels and doubts wrong ones too little.
    """
    network, neighbours = inputs.network, inputs.neighbours
    if not inputs.is_classification or neighbours is None:
        return None
    if network is not None and _is_reference(network, neighbours):
        return "the network", network.train
    return "their ten nearest neighbours", neighbours.train


def _is_reference(network: PredictorOutputs, neighbours: PredictorOutputs) -> bool:
    """Return whether the network is better than neighbours and has not memorized the labels, which it would repeat."""
    unseen = network.validation.mean_score
    return network.train.mean_score < unseen + MARGIN and unseen >= neighbours.validation.mean_score + MARGIN


def _suspects(scored: SplitOutputs) -> list[SuspectLabel]:
    """Return suspicious labels, the worst first."""
    rows = np.arange(len(scored.targets))
    label_probability: Floats = scored.outputs[rows, scored.targets]
    typical = np.array(
        [_mean(scored.outputs[scored.targets == label, label]) for label in range(scored.outputs.shape[1])]
    )
    margins = np.where(scored.outputs >= typical, scored.outputs, 0.0)
    margins[rows, scored.targets] = 0.0
    suggested = margins.argmax(axis=1)
    confidence = margins.max(axis=1) - label_probability
    found = np.flatnonzero((margins.max(axis=1) > 0) & (label_probability < typical[scored.targets]) & (confidence > 0))
    order = found[np.argsort(-confidence[found], kind="stable")]
    return [
        SuspectLabel(int(scored.ids[row]), int(scored.targets[row]), int(suggested[row]), float(confidence[row]))
        for row in order.tolist()
    ]


def _mean(values: Floats) -> float:
    return float(values.mean()) if len(values) else 1.0
