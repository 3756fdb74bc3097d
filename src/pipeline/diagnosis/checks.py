"""Check the optimisation and generalisation of a run: learning rate, length, fit and calibration."""

from collections.abc import Callable

import numpy as np

from pipeline.diagnosis import advice, sample_checks
from pipeline.diagnosis.finding import MARGIN, STANDARD_ERRORS, Finding, format_score
from pipeline.diagnosis.inputs import DiagnosisInputs
from pipeline.reports.evaluation_statistics import Floats, calibration

# A loss this many times that of a constant prediction is divergence, not slow progress.
DIVERGED = 1.5
# At the start large initial weights may cost as much; only more than this points at the learning rate.
DIVERGED_AT_START = 3.0
# Relative weight change. Networks trained from scratch changed by 0.2 to 3; at a hundredth of a sensible learning
# rate by 0.01 to 0.03.
SMALL_CHANGE = 0.1
# Relative weight change an epoch: below this a hundred more epochs would not change the weights by their own norm.
SLOW_CHANGE = 0.01
# Relative fall of the validation loss in an epoch, and its fall in units of the loss of a constant prediction. A
# training that is nearly done gains less: the default recipe on 3,500 digits 2 % in its last epoch.
FALLING = 0.05
WORTHWHILE = 0.01
# The same for a constant learning rate when neighbours predict better; any other schedule ends at rest by itself.
STILL_FALLING = 0.01
# Epochs without a rise: a fluctuating loss is lowest at the end now and then, by chance.
STEADILY = 4


def learning_rate_too_high(inputs: DiagnosisInputs) -> Finding | None:
    """Find a loss that became NaN or infinite, or rose far above a constant prediction's and never recovered."""
    losses = inputs.validation_losses
    explanation = ""
    evidence: tuple[str, ...] = ()
    if inputs.nan_message is not None or not np.isfinite(losses).all():
        what = inputs.nan_message or f"the validation loss is {losses[~np.isfinite(losses)][0]:g}"
        explanation, evidence = (
            "The learning rate was so high that the loss grew until it was NaN or infinite.",
            (what,),
        )
    elif _behind(inputs) and (peak := _diverged_loss(inputs)) is not None:
        explanation = "The learning rate is so high that training diverged."
        evidence = (
            f"the loss rose to {peak:.3g}, where a constant prediction costs {inputs.uninformed_loss:.3g}",
            *_against_neighbours(inputs),
        )
    if not explanation:
        return None
    rate = advice.learning_rate_of(inputs)
    return Finding(
        name="learning rate too high",
        explanation=explanation,
        evidence=(*evidence, *([] if rate is None else [f"{rate[0]} was {rate[1]:g}"])),
        overrides=advice.scale_learning_rate(inputs, times=0.1),
        advice="Try a tenth of it; if training is still unstable, add trainer.gradient_clip_val=1.0.",
    )


def learning_rate_too_low(inputs: DiagnosisInputs) -> Finding | None:
    """Find a network that is far behind its neighbours, with weights that barely changed."""
    epochs = len(inputs.validation_losses)
    if not _behind(inputs) or inputs.weight_change is None or epochs == 0:
        return None
    if inputs.weight_change >= SMALL_CHANGE or inputs.weight_change / epochs >= SLOW_CHANGE:
        return None
    first, last = inputs.validation_losses[[0, -1]]
    return Finding(
        name="learning rate too low",
        explanation="Training is very slow: the loss is still high, and the weights have barely changed.",
        evidence=(
            f"the weights changed by {inputs.weight_change:.1%} of their norm in {_epochs(epochs)}",
            f"the validation loss went from {first:.3f} to {last:.3f}",
            *_against_neighbours(inputs),
        ),
        overrides=advice.scale_learning_rate(inputs, times=30),
        advice="Try thirty times the learning rate; a search over it finds the best.",
    )


def stopped_early(inputs: DiagnosisInputs) -> Finding | None:
    """Find a validation loss that was still falling when the training ended."""
    losses = inputs.validation_losses
    fall = _relative_fall(losses)
    too_short_to_see = len(losses) < 2
    if fall is None or losses[-1] > losses.min() or (np.diff(losses[-STEADILY:]) >= 0).any():
        return None
    gain = fall * losses[-1] / inputs.uninformed_loss
    is_falling = fall >= FALLING and gain >= WORTHWHILE
    goes_on = advice.has_constant_rate(inputs)
    could_fall = too_short_to_see or (goes_on and fall >= STILL_FALLING)
    if not is_falling and not (could_fall and _behind(inputs)):
        return None
    return Finding(
        name="stopped too early",
        explanation="Training ended while the network was still improving.",
        evidence=(
            f"at the end the validation loss fell by {fall:.1%} an epoch, to {losses[-1]:.3f}, its lowest"
            if not too_short_to_see
            else "there was only one epoch",
            f"training took {_epochs(len(losses))}",
        ),
        overrides=advice.train_longer(inputs, times=4),
        advice="Resume it from its last checkpoint." if goes_on else "Train again, because its schedule has ended.",
        resumes=goes_on,
    )


def underfitting(inputs: DiagnosisInputs) -> Finding | None:
    """Find a network that does not fit its training samples, and that longer training would not help."""
    if not _behind(inputs):
        return None
    return Finding(
        name="underfitting",
        explanation="The network does not fit its training samples and no longer improves: it is too small "
        "or too regularized.",
        evidence=_against_neighbours(inputs),
        overrides=advice.less_regularization(inputs),
        advice="Try a weaker penalty, less dropout, or a larger model.",
    )


def _behind(inputs: DiagnosisInputs) -> bool:
    """Return whether nearest neighbours predict better than the network, on both splits."""
    network, neighbours = inputs.network, inputs.neighbours
    if network is None or neighbours is None:
        return False
    if not np.isfinite(network.train.losses).all():
        return True
    shown = neighbours.train.scores - network.train.scores
    unseen = neighbours.validation.scores - network.validation.scores
    return shown.mean() >= MARGIN and _standard_errors(shown) >= STANDARD_ERRORS and unseen.mean() >= MARGIN


def _standard_errors(differences: Floats) -> float:
    """Return how many standard errors the mean is above 0."""
    error = differences.std() / np.sqrt(len(differences))
    return float(differences.mean() / max(error, 1e-12))


def _against_neighbours(inputs: DiagnosisInputs) -> tuple[str, ...]:
    network, neighbours = inputs.network, inputs.neighbours
    if network is None or neighbours is None:
        return ()
    mine, theirs = (format_score(inputs, each.train.mean_score) for each in (network, neighbours))
    unseen, known = (format_score(inputs, each.validation.mean_score) for each in (network, neighbours))
    return (
        f"on the training samples the network reaches {mine}; their ten nearest neighbours reach {theirs}",
        f"on the validation samples {unseen} and {known}",
    )


def _diverged_loss(inputs: DiagnosisInputs) -> float | None:
    """Return the highest loss if it shows divergence; training losses with penalties on the weights do not count."""
    is_plain = not any(key.startswith("regularizer.") for key in inputs.settings)
    training = inputs.training_losses if is_plain else np.zeros(0)
    later = max([*training[1:], *inputs.validation_losses[1:]], default=0.0)
    first = max([*training[:1], *inputs.validation_losses[:1]], default=0.0)
    if later >= DIVERGED * inputs.uninformed_loss or first >= DIVERGED_AT_START * inputs.uninformed_loss:
        return float(max(later, first))
    return None


def _relative_fall(losses: Floats) -> float | None:
    """Return the relative fall an epoch over the last quarter; 0 for one epoch, None for none."""
    if len(losses) == 0 or not np.isfinite(losses).all():
        return None
    epochs = max(len(losses) // 4, 1)
    if len(losses) < 2 or losses[-1 - epochs] <= 0 or losses[-1] <= 0:
        return 0.0
    return float(1 - (losses[-1] / losses[-1 - epochs]) ** (1 / epochs))


def _epochs(count: int) -> str:
    return "1 epoch" if count == 1 else f"{count} epochs"


# Guo et al. 2017 found 0.04 to 0.17 in the networks that they called miscalibrated.
HIGH_ERROR = 0.05
# Probability by chance; labels are drawn so many times from the predicted distribution.
CHANCE = 1e-3
DRAWS = 2_000


def overfitting(inputs: DiagnosisInputs) -> Finding | None:
    """Find a network that is far better on training samples than on validation samples."""
    network = inputs.network
    if network is None or not np.isfinite(network.validation.losses).all():
        return None
    shown, unseen = network.train.scores, network.validation.scores
    gap = float(shown.mean() - unseen.mean())
    error = float(np.sqrt(shown.var() / len(shown) + unseen.var() / len(unseen)))
    if gap < MARGIN or gap < STANDARD_ERRORS * max(error, 1e-12):
        return None
    losses = inputs.validation_losses
    lowest = int(losses.argmin()) if len(losses) else 0
    rises = len(losses) > 1 and losses[-1] > losses[lowest]
    return Finding(
        name="overfitting",
        explanation="The network has memorized its training samples, and is much worse on others.",
        evidence=(
            f"{format_score(inputs, shown.mean())} on its {len(shown):,} training samples, "
            f"{format_score(inputs, unseen.mean())} on {len(unseen):,} validation samples",
            *(
                [
                    f"the validation loss was lowest, {losses[lowest]:.3f}, in epoch {lowest + 1} of {len(losses)}, "
                    f"and {losses[-1]:.3f} at the end"
                ]
                if rises
                else []
            ),
        ),
        overrides=advice.more_regularization(inputs),
        advice="More samples help most; without them, regularization makes it harder to memorize.",
    )


def miscalibration(inputs: DiagnosisInputs) -> Finding | None:
    """Find a calibration error beyond what chance gives a calibrated network."""
    if inputs.network is None or not inputs.is_classification:
        return None
    validation = inputs.network.validation
    found = calibration(validation.confidence, validation.correct)
    if found.error < HIGH_ERROR or found.error < _error_by_chance(validation.confidence):
        return None
    confidence, accuracy = float(validation.confidence.mean()), validation.mean_score
    return Finding(
        name="miscalibration",
        explanation=f"The network is {'overconfident' if confidence > accuracy else 'underconfident'}: its "
        "probabilities are not reliable.",
        evidence=(
            f"its mean confidence is {confidence:.1%}, and its accuracy {accuracy:.1%} on "
            f"{len(validation.correct):,} validation samples",
            f"expected calibration error {found.error:.3f}",
        ),
        overrides=advice.improve_calibration(inputs, is_overconfident=confidence > accuracy),
        advice="Label smoothing, and the weights with the lowest loss, lower its confidence."
        if confidence > accuracy
        else "What lowers its confidence is stronger than needed.",
    )


def _error_by_chance(confidence: np.ndarray) -> float:
    """Return the calibration error that a calibrated network exceeds with a probability of CHANCE.

    By consistency resampling (Broecker & Smith 2007), because bins with few samples deviate by chance.
    """
    generator = np.random.default_rng(0)
    errors = [calibration(confidence, generator.random(len(confidence)) < confidence).error for _ in range(DRAWS)]
    return float(np.quantile(errors, 1 - CHANCE))


Check = Callable[[DiagnosisInputs], Finding | None]

# Only the first finding of each row is reported: later ones would be its consequences.
CHECKS: tuple[tuple[Check, ...], ...] = (
    (sample_checks.leakage,),
    (sample_checks.imbalance,),
    (sample_checks.label_noise,),
    (
        *(learning_rate_too_high, learning_rate_too_low, stopped_early, underfitting),
        *(overfitting, miscalibration),
    ),
)


def run_checks(inputs: DiagnosisInputs) -> list[Finding]:
    found = (next((each for check in row if (each := check(inputs)) is not None), None) for row in CHECKS)
    return [each for each in found if each is not None]
