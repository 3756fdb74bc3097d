"""Whether what was learned holds for samples that were not shown, and whether it is as sure as it is right."""

import numpy as np

from pipeline.diagnosis import advice
from pipeline.diagnosis.finding import MARGIN, STANDARD_ERRORS, Finding, merit_of
from pipeline.diagnosis.symptoms import Symptoms
from pipeline.reports.statistics import calibration

# Guo et al. 2017 found 0.04 to 0.17 in the networks that they called miscalibrated.
TOO_FAR = 0.05
# By chance; labels are drawn anew so many times as the network says they are distributed.
CHANCE = 1e-3
DRAWS = 2_000


def overfitting(symptoms: Symptoms) -> Finding | None:
    """Far better on what was shown than on what was not."""
    network = symptoms.network
    if network is None or not np.isfinite(network.validation.losses).all():
        return None
    shown, unseen = network.train.merits, network.validation.merits
    gap = float(shown.mean() - unseen.mean())
    error = float(np.sqrt(shown.var() / len(shown) + unseen.var() / len(unseen)))
    if gap < MARGIN or gap < STANDARD_ERRORS * max(error, 1e-12):
        return None
    losses = symptoms.validation_losses
    lowest = int(losses.argmin()) if len(losses) else 0
    rises = len(losses) > 1 and losses[-1] > losses[lowest]
    return Finding(
        fault="overfitting",
        told="The network knows its training samples by heart, and others much less well.",
        figures=(
            f"{merit_of(symptoms, shown.mean())} on its {len(shown):,} training samples, "
            f"{merit_of(symptoms, unseen.mean())} on {len(unseen):,} validation samples",
            *(
                [
                    f"the validation loss was lowest, {losses[lowest]:.3f}, in epoch {lowest + 1} of {len(losses)}, "
                    f"and {losses[-1]:.3f} at the end"
                ]
                if rises
                else []
            ),
        ),
        overrides=advice.more_restraint(symptoms),
        advice="More samples help most; without them, this makes it harder to learn by heart.",
    )


def miscalibration(symptoms: Symptoms) -> Finding | None:
    """Not as often right as it is sure: beyond what chance would make of a network that tells the truth."""
    if symptoms.network is None or not symptoms.is_of_classes:
        return None
    judged = symptoms.network.validation
    found = calibration(judged.confidence, judged.right)
    if found.error < TOO_FAR or found.error < _error_by_chance(judged.confidence):
        return None
    sure, right = float(judged.confidence.mean()), judged.merit
    return Finding(
        fault="miscalibration",
        told=f"The network is {'surer' if sure > right else 'less sure'} than it has reason to be: its probabilities "
        "are not to be taken at their word.",
        figures=(
            f"on average it is {sure:.1%} sure, and right in {right:.1%} of {len(judged.right):,} validation samples",
            f"expected calibration error {found.error:.3f}",
        ),
        overrides=advice.trusted(symptoms, is_too_sure=sure > right),
        advice="Smoothed labels, and the weights of the lowest loss, keep it modest."
        if sure > right
        else "What makes it modest is stronger than need be.",
    )


def _error_by_chance(confidence: np.ndarray) -> float:
    """The error that a network which is exactly as sure as it is right exceeds with a probability of CHANCE.

    Resampled for consistency (Broecker & Smith 2007): few samples in a bin are off by themselves.
    """
    generator = np.random.default_rng(0)
    errors = [calibration(confidence, generator.random(len(confidence)) < confidence).error for _ in range(DRAWS)]
    return float(np.quantile(errors, 1 - CHANCE))
