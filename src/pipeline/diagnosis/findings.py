"""All that is looked for, in the order in which it is told: what would explain the rest comes first."""

from collections.abc import Callable

from pipeline.diagnosis import checks, generalisation, sample_checks
from pipeline.diagnosis.finding import Finding
from pipeline.diagnosis.symptoms import Symptoms

Look = Callable[[Symptoms], Finding | None]

# Of each row the first that applies is told: those after it would be its consequences.
LOOKS: tuple[tuple[Look, ...], ...] = (
    (sample_checks.leakage,),
    (sample_checks.imbalance,),
    (sample_checks.label_noise,),
    (
        *(checks.too_high, checks.too_low, checks.stopped_early, checks.underfitting),
        *(generalisation.overfitting, generalisation.miscalibration),
    ),
)


def findings(symptoms: Symptoms) -> list[Finding]:
    found = (next((each for look in row if (each := look(symptoms)) is not None), None) for row in LOOKS)
    return [each for each in found if each is not None]
