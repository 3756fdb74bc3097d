"""Faults of the samples: the same ones in two parts, a class that is rare, labels that are wrong."""

import math

import numpy as np

from pipeline.diagnosis import advice
from pipeline.diagnosis.finding import MARGIN, STANDARD_ERRORS, Finding, SuspectLabel
from pipeline.diagnosis.inputs import DiagnosisInputs, DuplicateCount, PredictorOutputs, SplitOutputs
from pipeline.reports.evaluation_statistics import Floats

# Of a part; fewer copies cannot lift its accuracy by a point.
COPIED = 0.01
# Where rows of a coarse table are alike by chance, their answers differ now and then; those of copies never do.
AGREEING = 0.99
# Of an equal share of the samples: a class with less than half of it is rare.
RARE = 0.5
# By chance; one run in a thousand has a class as bad as that.
CHANCE = 1e-3
# Of the network's accuracy on the others: a rare class that is found less often than this is neglected.
NEGLECTED = 0.8
# Of the labels where they should be clearest; what is merely hard is hard near the borders, wrong labels are anywhere.
WRONG = 0.04
# The part of the samples, the surest ones, where no mistake is expected.
CLEAREST = 0.25
# Of the mistakes elsewhere: classes that overlap have far fewer where they are clear, wrong labels as many.
AS_ANYWHERE = 0.5
SHOWN = 24


def leakage(symptoms: DiagnosisInputs) -> Finding | None:
    """Samples of the validation or test part that stand in the training part."""
    found = {
        name: each
        for name, each in symptoms.copies.items()
        if name != "train" and _is_leak(each, symptoms.copies["train"])
    }
    if not found:
        return None
    twice = symptoms.copies["train"]
    return Finding(
        fault="leakage",
        told="The network was shown samples that it is judged by: its figures are better than it is.",
        figures=(
            *(
                f"{each.alike:,} of {each.size:,} {name} samples ({each.share:.1%}) stand in the training part, too, "
                f"{each.same:,} of them with the same answer"
                for name, each in found.items()
            ),
            f"{twice.alike:,} of {twice.size:,} training samples stand there more than once",
        ),
        overrides=("data.on_copies=drop",),
        advice="Without them in the training part the figures are honest; find out how they came into two parts.",
    )


def _is_leak(part: DuplicateCount, train: DuplicateCount) -> bool:
    if part.alike < 2 or part.share < COPIED:
        return False
    # What is alike inside the training part may be alike across parts, by chance; only more than that is a leak.
    spread = math.sqrt(max(train.share * (1 - train.share), 1e-4) / part.size)
    return part.same >= AGREEING * part.alike or part.share - train.share >= max(COPIED, STANDARD_ERRORS * spread)


def imbalance(symptoms: DiagnosisInputs) -> Finding | None:
    """A class that is rare, and found far less often than the others."""
    if symptoms.network is None or not symptoms.is_of_classes:
        return None
    judged, counts = symptoms.network.validation, symptoms.counts
    shares = counts / counts.sum()
    rows: list[tuple[float, int, int, int]] = []
    for label in np.flatnonzero(shares < RARE / len(counts)).tolist():
        own = judged.targets == label
        hits, size = int(judged.right[own].sum()), int(own.sum())
        others = float(judged.right[~own].mean()) if size < len(own) else 0.0
        if size and hits < NEGLECTED * others * size and _at_most(hits, size, others) < CHANCE:
            rows.append((hits / size, label, hits, size))
    if not rows:
        return None
    largest = int(counts.argmax())
    return Finding(
        fault="class imbalance",
        told="The network neglects what is rare: a wrong answer there hardly counts among so many others.",
        figures=(
            *(
                f"{symptoms.class_names[label]}: {counts[label]:,} of {counts.sum():,} training samples "
                f"({shares[label]:.1%}), and {hits} of {size} validation samples found"
                for _, label, hits, size in sorted(rows)[:3]
            ),
            f"{symptoms.class_names[largest]}: {shares[largest]:.1%} of the training samples; accuracy over all "
            f"validation samples {judged.merit:.1%}",
        ),
        overrides=advice.weigh_rare_classes(symptoms),
        advice="Classes count alike, however many samples each has.",
    )


def _at_most(hits: int, size: int, chance: float) -> float:
    """The probability of so few hits; by logarithms, because the numbers themselves are beyond a float."""
    clamped = min(max(chance, 1e-6), 1 - 1e-6)
    of_hit, of_miss = math.log(clamped), math.log1p(-clamped)
    return sum(math.exp(_log_ways(each, size) + each * of_hit + (size - each) * of_miss) for each in range(hits + 1))


def _log_ways(hits: int, size: int) -> float:
    return math.lgamma(size + 1) - math.lgamma(hits + 1) - math.lgamma(size - hits + 1)


def label_noise(symptoms: DiagnosisInputs) -> Finding | None:
    """Labels that nobody would give who has not seen them, among the samples that should be the clearest.

    Suspects are those of confident learning (Northcutt et al. 2021): another class is at least as probable as it is,
    on average, among its own samples, and the given one less than that.
    """
    judge = _judge(symptoms)
    if judge is None:
        return None
    name, scored = judge
    clear = scored.confidence >= np.quantile(scored.confidence, 1 - CLEAREST)
    wrong, size = int((~scored.right[clear]).sum()), int(clear.sum())
    if wrong < AS_ANYWHERE * size * (1 - scored.merit) or _at_most(size - wrong, size, 1 - WRONG) >= CHANCE:
        return None
    suspects = _suspects(scored)
    if not suspects:
        return None
    return Finding(
        fault="label noise",
        told="Some labels are wrong: samples that should be clear are labelled as something else.",
        figures=(
            f"of the {size:,} training samples that are clearest to {name}, {wrong:,} ({wrong / size:.1%}) are "
            "labelled otherwise",
            f"{len(suspects):,} of {len(scored.targets):,} training samples ({len(suspects) / len(scored.targets):.1%})"
            " are suspicious",
        ),
        overrides=advice.soften_labels(symptoms),
        advice="First look at the suspicious samples below, and correct or remove what is wrong; this makes the rest "
        "weigh less.",
        suspects=tuple(suspects),
    )


def _judge(symptoms: DiagnosisInputs) -> tuple[str, SplitOutputs] | None:
    """The neighbours, or a network that is far more often right on the validation samples.

    Only far more, because it was trained on the very labels that it is to judge: it doubts the wrong ones too little.
    """
    network, neighbours = symptoms.network, symptoms.neighbours
    if not symptoms.is_of_classes or neighbours is None:
        return None
    if network is not None and _judges(network, neighbours):
        return "the network", network.train
    return "their ten nearest neighbours", neighbours.train


def _judges(network: PredictorOutputs, neighbours: PredictorOutputs) -> bool:
    """What knows its samples by heart can only repeat their labels."""
    unseen = network.validation.merit
    return network.train.merit < unseen + MARGIN and unseen >= neighbours.validation.merit + MARGIN


def _suspects(scored: SplitOutputs) -> list[SuspectLabel]:
    """The worst first."""
    rows = np.arange(len(scored.targets))
    given: Floats = scored.answers[rows, scored.targets]
    typical = np.array(
        [_mean(scored.answers[scored.targets == label, label]) for label in range(scored.answers.shape[1])]
    )
    margins = np.where(scored.answers >= typical, scored.answers, 0.0)
    margins[rows, scored.targets] = 0.0
    instead = margins.argmax(axis=1)
    sureness = margins.max(axis=1) - given
    found = np.flatnonzero((margins.max(axis=1) > 0) & (given < typical[scored.targets]) & (sureness > 0))
    order = found[np.argsort(-sureness[found], kind="stable")]
    return [
        SuspectLabel(int(scored.ids[row]), int(scored.targets[row]), int(instead[row]), float(sureness[row]))
        for row in order.tolist()
    ]


def _mean(values: Floats) -> float:
    return float(values.mean()) if len(values) else 1.0
