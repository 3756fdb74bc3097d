"""What a diagnosis says."""

from dataclasses import dataclass

from pipeline.diagnosis.inputs import DiagnosisInputs

# One test in a thousand such runs says too much by chance; a run is asked nine of them.
STANDARD_ERRORS = 3.0
# Points of accuracy (or hundredths of explained variance) below which nobody would change a training for it.
MARGIN = 0.05


@dataclass(frozen=True)
class SuspectLabel:
    """A training sample: what its label says, what it looks like instead, and how sure that is, 0 to 1."""

    row: int
    given: int
    instead: int
    sureness: float


@dataclass(frozen=True)
class Finding:
    """fault      its name
    told       what is wrong, in a sentence or two
    figures    what led to it, in words
    overrides  what to try next; none where the run has no key for it
    resumes    whether the run itself goes on with them; else a new one is trained
    advice     why that might help
    suspects   training samples to look at, the worst first
    """

    fault: str
    told: str
    figures: tuple[str, ...]
    overrides: tuple[str, ...]
    advice: str
    resumes: bool = False
    suspects: tuple[SuspectLabel, ...] = ()


def format_score(symptoms: DiagnosisInputs, value: float) -> str:
    """An accuracy, or a share of explained variance, as a person reads it."""
    return f"{value:.1%}" if symptoms.is_of_classes else f"R² {value:.3f}"
