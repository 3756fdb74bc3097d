"""Whether training got as far as it could: steps too long, too short, too few, or a network that cannot fit."""

from collections.abc import Callable

import numpy as np

from pipeline.diagnosis import advice, sample_checks
from pipeline.diagnosis.finding import MARGIN, STANDARD_ERRORS, Finding, format_score
from pipeline.diagnosis.inputs import DiagnosisInputs
from pipeline.reports.evaluation_statistics import Floats, calibration

# A loss this many times that of an answer which never varies is not slow progress: something threw the weights there.
LEAP = 1.5
# At the start large first weights may cost as much; only more than this speaks of the steps.
FIRST_LEAP = 3.0
# Of their own length. Trained from scratch, networks were seen to move by 0.2 to 3; at a hundredth of a sensible
# learning rate by 0.01 to 0.03.
STOOD_STILL = 0.1
# Of their own length in an epoch: less than this, and a hundred more epochs would not move them once.
SLOW_PACE = 0.01
# Relative fall of the validation loss in an epoch, and its fall in losses of an uninformed answer. A training that is
# nearly done gains less: the default recipe on 3,500 digits 2 % in its last epoch.
FALLING = 0.05
WORTHWHILE = 0.01
# The same where more is known to be there, and the rate is constant: any other comes to rest at its end by itself.
STILL_FALLING = 0.01
# Epochs without a rise between them: a loss that goes up and down is lowest at the end now and then, by chance.
STEADILY = 4


def learning_rate_too_high(symptoms: DiagnosisInputs) -> Finding | None:
    """The loss is no number, or was thrown far above where an uninformed answer stands and never got well."""
    losses = symptoms.validation_losses
    told = ""
    figures: tuple[str, ...] = ()
    if symptoms.broke is not None or not np.isfinite(losses).all():
        what = symptoms.broke or f"the validation loss is {losses[~np.isfinite(losses)][0]:g}"
        told, figures = "The steps were so long that the loss ran away until it was no number.", (what,)
    elif _behind(symptoms) and (peak := _leap(symptoms)) is not None:
        told = "The steps are so long that they threw the weights away from any solution."
        figures = (
            f"the loss rose to {peak:.3g}, where always giving the same answer costs {symptoms.uninformed_loss:.3g}",
            *_against_neighbours(symptoms),
        )
    if not told:
        return None
    rate = advice.learning_rate_of(symptoms)
    return Finding(
        fault="learning rate too high",
        told=told,
        figures=(*figures, *([] if rate is None else [f"{rate[0]} was {rate[1]:g}"])),
        overrides=advice.scale_learning_rate(symptoms, times=0.1),
        advice="A tenth of it; if that is still unsteady, trainer.gradient_clip_val=1.0 as well.",
    )


def learning_rate_too_low(symptoms: DiagnosisInputs) -> Finding | None:
    """The network is far from what the data allows, and its weights are nearly where they set out."""
    epochs = len(symptoms.validation_losses)
    if not _behind(symptoms) or symptoms.moved is None or epochs == 0:
        return None
    if symptoms.moved >= STOOD_STILL or symptoms.moved / epochs >= SLOW_PACE:
        return None
    first, last = symptoms.validation_losses[[0, -1]]
    return Finding(
        fault="learning rate too low",
        told="Training creeps: the loss is far from done, and the weights are nearly where they set out.",
        figures=(
            f"the weights moved by {symptoms.moved:.1%} of their length in {_epochs(epochs)}",
            f"the validation loss went from {first:.3f} to {last:.3f}",
            *_against_neighbours(symptoms),
        ),
        overrides=advice.scale_learning_rate(symptoms, times=30),
        advice="Thirty times as long steps; a search over the learning rate finds the best.",
    )


def stopped_early(symptoms: DiagnosisInputs) -> Finding | None:
    """The validation loss was still falling when the training ended."""
    losses = symptoms.validation_losses
    pace = _pace(losses)
    too_short_to_see = len(losses) < 2
    if pace is None or losses[-1] > losses.min() or (np.diff(losses[-STEADILY:]) >= 0).any():
        return None
    gain = pace * losses[-1] / symptoms.uninformed_loss
    is_falling = pace >= FALLING and gain >= WORTHWHILE
    goes_on = advice.has_constant_rate(symptoms)
    could_fall = too_short_to_see or (goes_on and pace >= STILL_FALLING)
    if not is_falling and not (could_fall and _behind(symptoms)):
        return None
    return Finding(
        fault="stopped too early",
        told="Training ended while the network was still getting better.",
        figures=(
            f"at the end the validation loss fell by {pace:.1%} an epoch, to {losses[-1]:.3f}, its lowest"
            if not too_short_to_see
            else "there was only one epoch",
            f"training took {_epochs(len(losses))}",
        ),
        overrides=advice.train_longer(symptoms, times=4),
        advice="It goes on from its last checkpoint." if goes_on else "Anew, because its schedule has come to its end.",
        resumes=goes_on,
    )


def underfitting(symptoms: DiagnosisInputs) -> Finding | None:
    """The network does not even fit what it was shown, and training it longer would not help."""
    if not _behind(symptoms):
        return None
    return Finding(
        fault="underfitting",
        told="The network cannot fit what it is shown, and it has stopped learning: it is too small, or held back.",
        figures=_against_neighbours(symptoms),
        overrides=advice.less_regularization(symptoms),
        advice="More freedom: a weaker penalty, less dropout, or a larger model.",
    )


def _behind(symptoms: DiagnosisInputs) -> bool:
    """The training samples around a sample tell more of it than the network, on both parts."""
    network, neighbours = symptoms.network, symptoms.neighbours
    if network is None or neighbours is None:
        return False
    if not np.isfinite(network.train.losses).all():
        return True
    shown = neighbours.train.merits - network.train.merits
    unseen = neighbours.validation.merits - network.validation.merits
    return shown.mean() >= MARGIN and _standard_errors(shown) >= STANDARD_ERRORS and unseen.mean() >= MARGIN


def _standard_errors(differences: Floats) -> float:
    """How many of them the mean is away from 0."""
    error = differences.std() / np.sqrt(len(differences))
    return float(differences.mean() / max(error, 1e-12))


def _against_neighbours(symptoms: DiagnosisInputs) -> tuple[str, ...]:
    network, neighbours = symptoms.network, symptoms.neighbours
    if network is None or neighbours is None:
        return ()
    mine, theirs = (format_score(symptoms, each.train.merit) for each in (network, neighbours))
    unseen, known = (format_score(symptoms, each.validation.merit) for each in (network, neighbours))
    return (
        f"on its own training samples the network reaches {mine}; to ask the ten nearest others reaches {theirs}",
        f"on the validation samples {unseen} and {known}",
    )


def _leap(symptoms: DiagnosisInputs) -> float | None:
    """The highest loss, if it is beyond any slow start. Training losses hold the penalties on the weights, too."""
    is_plain = not any(key.startswith("regularizer.") for key in symptoms.settings)
    training = symptoms.training_losses if is_plain else np.zeros(0)
    later = max([*training[1:], *symptoms.validation_losses[1:]], default=0.0)
    first = max([*training[:1], *symptoms.validation_losses[:1]], default=0.0)
    if later >= LEAP * symptoms.uninformed_loss or first >= FIRST_LEAP * symptoms.uninformed_loss:
        return float(max(later, first))
    return None


def _pace(losses: Floats) -> float | None:
    """The relative fall in an epoch, over the last quarter; 0 where there is one epoch, None where there is none."""
    if len(losses) == 0 or not np.isfinite(losses).all():
        return None
    epochs = max(len(losses) // 4, 1)
    if len(losses) < 2 or losses[-1 - epochs] <= 0 or losses[-1] <= 0:
        return 0.0
    return float(1 - (losses[-1] / losses[-1 - epochs]) ** (1 / epochs))


def _epochs(count: int) -> str:
    return "1 epoch" if count == 1 else f"{count} epochs"


# Guo et al. 2017 found 0.04 to 0.17 in the networks that they called miscalibrated.
TOO_FAR = 0.05
# By chance; labels are drawn anew so many times as the network says they are distributed.
CHANCE = 1e-3
DRAWS = 2_000


def overfitting(symptoms: DiagnosisInputs) -> Finding | None:
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
            f"{format_score(symptoms, shown.mean())} on its {len(shown):,} training samples, "
            f"{format_score(symptoms, unseen.mean())} on {len(unseen):,} validation samples",
            *(
                [
                    f"the validation loss was lowest, {losses[lowest]:.3f}, in epoch {lowest + 1} of {len(losses)}, "
                    f"and {losses[-1]:.3f} at the end"
                ]
                if rises
                else []
            ),
        ),
        overrides=advice.more_regularization(symptoms),
        advice="More samples help most; without them, this makes it harder to learn by heart.",
    )


def miscalibration(symptoms: DiagnosisInputs) -> Finding | None:
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
        overrides=advice.improve_calibration(symptoms, is_too_sure=sure > right),
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


Check = Callable[[DiagnosisInputs], Finding | None]

# Of each row the first that applies is told: those after it would be its consequences.
CHECKS: tuple[tuple[Check, ...], ...] = (
    (sample_checks.leakage,),
    (sample_checks.imbalance,),
    (sample_checks.label_noise,),
    (
        *(learning_rate_too_high, learning_rate_too_low, stopped_early, underfitting),
        *(overfitting, miscalibration),
    ),
)


def run_checks(symptoms: DiagnosisInputs) -> list[Finding]:
    found = (next((each for look in row if (each := look(symptoms)) is not None), None) for row in CHECKS)
    return [each for each in found if each is not None]
