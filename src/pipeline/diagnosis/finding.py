"""A finding of a diagnosis."""

from dataclasses import dataclass

from pipeline.diagnosis.inputs import DiagnosisInputs

# At this level about one healthy run in a thousand fails a check by chance; each run undergoes nine.
STANDARD_ERRORS = 3.0
# Smaller differences of accuracy (or of explained variance) are not worth another training.
MARGIN = 0.05


@dataclass(frozen=True)
class SuspectLabel:
    """A training sample whose label may be wrong; `confidence`, 0 to 1, is that of the suggested label."""

    row: int
    label: int
    suggested: int
    confidence: float


@dataclass(frozen=True)
class Finding:
    """A fault of a run.

    explanation  what is wrong, in one or two sentences
    evidence     the figures that led to it, as sentences
    overrides    overrides to try next; empty if the run has no such keys
    advice       why they might help
    resumes      whether the same run is resumed with them; otherwise a new one is trained
    suspects     training samples to look at, the worst first
    """

    name: str
    explanation: str
    evidence: tuple[str, ...]
    overrides: tuple[str, ...]
    advice: str
    resumes: bool = False
    suspects: tuple[SuspectLabel, ...] = ()


def format_score(inputs: DiagnosisInputs, value: float) -> str:
    """Format an accuracy, or R2 for a regression."""
    return f"{value:.1%}" if inputs.is_classification else f"R² {value:.3f}"
