"""What is searched: the values of each key, and where it applies. No optuna in here."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from pipeline.errors import ConfigError

Value = str | int | float | bool | None
Picked = Mapping[str, Value]  # of the dimensions that apply, by key


class Chooser(Protocol):
    """What is asked for a value: an optuna Trial, or something that goes through them all."""

    def suggest_categorical(self, name: str, choices: Sequence[Value]) -> Value: ...

    def suggest_float(self, name: str, low: float, high: float, *, step: float | None, log: bool) -> float: ...

    def suggest_int(self, name: str, low: int, high: int, *, step: int, log: bool) -> int: ...


@dataclass(frozen=True)
class Choices:
    """labels[i] stands for the override text texts[i]; they differ for lists and other things that are no scalars."""

    labels: tuple[Value, ...]
    texts: tuple[str, ...]

    def suggest(self, key: str, chooser: Chooser) -> Value:
        return chooser.suggest_categorical(key, self.labels)

    def text(self, value: Value) -> str:
        return self.texts[self.labels.index(value)]

    def all(self) -> Sequence[Value]:
        return self.labels

    def holds(self, value: Any) -> bool:
        return value in self.labels


@dataclass(frozen=True)
class Numbers:
    """low to high, both included; `step` None for everything between."""

    low: float
    high: float
    step: float | None
    is_log: bool
    is_whole: bool

    def suggest(self, key: str, chooser: Chooser) -> Value:
        if self.is_whole:
            step = 1 if self.step is None else int(self.step)
            return chooser.suggest_int(key, int(self.low), int(self.high), step=step, log=self.is_log)
        return chooser.suggest_float(key, self.low, self.high, step=self.step, log=self.is_log)

    def text(self, value: Value) -> str:
        return repr(value)

    def all(self) -> Sequence[float] | None:
        """None for everything between two numbers."""
        if self.step is None and not self.is_whole:
            return None
        step = 1 if self.step is None else self.step
        count = math.floor((self.high - self.low) / step + 1e-9) + 1
        values = [self.low + index * step for index in range(count)]
        return [int(value) for value in values] if self.is_whole else values

    def holds(self, value: Any) -> bool:
        is_number = isinstance(value, int if self.is_whole else int | float) and not isinstance(value, bool)
        if not is_number or not self.low <= value <= self.high:
            return False
        values = self.all()
        return values is None or any(math.isclose(value, each) for each in values)


Dimension = Choices | Numbers


@dataclass(frozen=True)
class Space:
    """dimensions  {key or group of the configuration: its values}, those that others depend on first
    conditions  {key: {other key: its values (as typed) under which this one is searched}}
    """

    dimensions: dict[str, Dimension]
    conditions: dict[str, dict[str, frozenset[str]]] = field(default_factory=dict)

    def pick(self, chooser: Chooser, settled: Mapping[str, str]) -> dict[str, Value]:
        """A value for each dimension that applies. `settled` holds the options that no trial changes."""
        picked: dict[str, Value] = {}
        for key, dimension in self.dimensions.items():
            if self._applies(key, {**settled, **self.texts(picked)}):
                picked[key] = dimension.suggest(key, chooser)
        return picked

    def texts(self, picked: Picked) -> dict[str, str]:
        """What stands behind `key=` for each value."""
        return {key: self.dimensions[key].text(value) for key, value in picked.items()}

    def overrides(self, picked: Picked) -> list[str]:
        return [f"{key}={text}" for key, text in self.texts(picked).items()]

    def combinations(self, settled: Mapping[str, str]) -> list[dict[str, Value]]:
        """Every one, in the order of the values. Raises ConfigError where there are infinitely many."""
        for key, dimension in self.dimensions.items():
            if dimension.all() is None:
                raise ConfigError(
                    f"{key} is searched between two numbers, which are no finite set of combinations: give "
                    f"search.n_trials=50, or steps, {key}=range(LOW,HIGH,STEP)"
                )
        values = ([(key, value) for value in dimension.all() or ()] for key, dimension in self.dimensions.items())
        found: dict[tuple[Any, ...], dict[str, Value]] = {}
        for combination in itertools.product(*values):
            picked = self.pick(_Given(dict(combination)), settled)
            found.setdefault(tuple(picked.items()), picked)
        return list(found.values())

    def _applies(self, key: str, chosen: Mapping[str, str]) -> bool:
        return all(chosen.get(other) in allowed for other, allowed in self.conditions.get(key, {}).items())


@dataclass(frozen=True)
class _Given:
    values: dict[str, Value]

    def suggest_categorical(self, name: str, choices: Sequence[Value]) -> Value:
        return self.values[name]

    def suggest_float(self, name: str, low: float, high: float, *, step: float | None, log: bool) -> Any:
        return self.values[name]

    def suggest_int(self, name: str, low: int, high: int, *, step: int, log: bool) -> Any:
        return self.values[name]
