"""What an annotation says of an argument beyond its type: `dropout: Annotated[float, Range(ge=0, lt=1)]`.

The check of a configuration reads it in the source (`config.constraint`), before anything is imported, and holds the
values that YAML and the command line give against it. Nothing looks at it while the program runs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated


@dataclass(frozen=True)
class Range:
    """A finite number: ge <= x <= le, gt < x < lt."""

    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None


@dataclass(frozen=True)
class Length:
    """So many elements."""

    ge: int


@dataclass(frozen=True, eq=False)  # a dictionary has no hash, which members of a union need
class KeyOf:
    """A key of a dictionary that stands in the source as such."""

    table: Mapping[str, object]


@dataclass(frozen=True)
class NameIn:
    """The dotted path of something in a package: `torch.nn.Mish`."""

    package: str


PositiveInt = Annotated[int, Range(ge=1)]
NonNegativeInt = Annotated[int, Range(ge=0)]
PositiveFloat = Annotated[float, Range(gt=0)]
NonNegativeFloat = Annotated[float, Range(ge=0)]
Probability = Annotated[float, Range(ge=0, le=1)]
ProbabilityBelowOne = Annotated[float, Range(ge=0, lt=1)]
Fraction = Annotated[float, Range(gt=0, le=1)]
ProperFraction = Annotated[float, Range(gt=0, lt=1)]
Seed = Annotated[int, Range(ge=0, le=4294967295)]  # what numpy and Lightning take
Port = Annotated[int, Range(ge=1, le=65535)]
Sizes = Annotated[Sequence[PositiveInt], Length(ge=1)]
