"""The search space: the values of each key, and where they apply. Free of Optuna."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from pipeline.errors import ConfigError

Value = str | int | float | bool | None
Params = Mapping[str, Value]  # {key: its value} of the dimensions that apply


class Suggester(Protocol):
    """Suggests a value: a Trial of Optuna, or our own class that enumerates them."""

    def suggest_categorical(self, name: str, choices: Sequence[Value]) -> Value: ...

    def suggest_float(self, name: str, low: float, high: float, *, step: float | None, log: bool) -> float: ...

    def suggest_int(self, name: str, low: int, high: int, *, step: int, log: bool) -> int: ...


@dataclass(frozen=True)
class Choices:
    """Some values. labels[i] stands for the override texts[i]; the two differ for lists and other non-scalars."""

    labels: tuple[Value, ...]
    texts: tuple[str, ...]

    def suggest(self, key: str, suggester: Suggester) -> Value:
        return suggester.suggest_categorical(key, self.labels)

    def text(self, value: Value) -> str:
        return self.texts[self.labels.index(value)]

    def all_values(self) -> Sequence[Value]:
        return self.labels

    def contains(self, value: Any) -> bool:
        return value in self.labels


@dataclass(frozen=True)
class NumberRange:
    """Numbers from low to high, both included; `step` is None for a continuous range."""

    low: float
    high: float
    step: float | None
    is_log: bool
    is_whole: bool

    def suggest(self, key: str, suggester: Suggester) -> Value:
        if self.is_whole:
            step = 1 if self.step is None else int(self.step)
            return suggester.suggest_int(key, int(self.low), int(self.high), step=step, log=self.is_log)
        return suggester.suggest_float(key, self.low, self.high, step=self.step, log=self.is_log)

    def text(self, value: Value) -> str:
        return repr(value)

    def all_values(self) -> Sequence[float] | None:
        """Return all values in order; None for a continuous range."""
        if self.step is None and not self.is_whole:
            return None
        step = 1 if self.step is None else self.step
        count = math.floor((self.high - self.low) / step + 1e-9) + 1
        values = [self.low + index * step for index in range(count)]
        return [int(value) for value in values] if self.is_whole else values

    def ends(self) -> tuple[float, float]:
        return (int(self.low), int(self.high)) if self.is_whole else (self.low, self.high)

    def contains(self, value: Any) -> bool:
        is_number = isinstance(value, int if self.is_whole else int | float) and not isinstance(value, bool)
        if not is_number or not self.low <= value <= self.high:
            return False
        values = self.all_values()
        return values is None or any(math.isclose(value, number) for number in values)


Dimension = Choices | NumberRange


@dataclass(frozen=True)
class SearchSpace:
    """The dimensions of a search.

    dimensions  {key or group of the configuration: its values}, those that others depend on first
    conditions  {key: {other key: its values (as typed) under which this one is searched}}
    """

    dimensions: dict[str, Dimension]
    conditions: dict[str, dict[str, frozenset[str]]] = field(default_factory=dict)

    def suggest(self, suggester: Suggester, fixed_options: Mapping[str, str]) -> dict[str, Value]:
        """Return a value for each dimension that applies; `fixed_options` are {group: option} that no trial changes."""
        params: dict[str, Value] = {}
        for key, dimension in self.dimensions.items():
            if self._applies(key, {**fixed_options, **self.texts(params)}):
                params[key] = dimension.suggest(key, suggester)
        return params

    def texts(self, params: Params) -> dict[str, str]:
        """Return {key: what an override has after the equals sign}."""
        return {key: self.dimensions[key].text(value) for key, value in params.items()}

    def overrides(self, params: Params) -> list[str]:
        return [f"{key}={text}" for key, text in self.texts(params).items()]

    def combinations(self, fixed_options: Mapping[str, str]) -> list[dict[str, Value]]:
        """Return every combination once, in the order of the values. Raises ConfigError for a continuous range."""
        for key, dimension in self.dimensions.items():
            if dimension.all_values() is None:
                raise ConfigError(
                    f"{key} is searched between two numbers, which has no finite number of combinations: give "
                    f"search.n_trials=50, or steps, {key}=range(LOW,HIGH,STEP)"
                )
        pairs = ([(key, value) for value in values.all_values() or ()] for key, values in self.dimensions.items())
        unique: dict[tuple[Any, ...], dict[str, Value]] = {}
        for combination in itertools.product(*pairs):
            params = self.suggest(_FixedParams(dict(combination)), fixed_options)
            unique.setdefault(tuple(params.items()), params)
        return list(unique.values())

    def _applies(self, key: str, texts: Mapping[str, str]) -> bool:
        return all(texts.get(other) in allowed for other, allowed in self.conditions.get(key, {}).items())


@dataclass(frozen=True)
class _FixedParams:
    """Suggests the values that it was given."""

    values: dict[str, Value]

    def suggest_categorical(self, name: str, choices: Sequence[Value]) -> Value:
        return self.values[name]

    def suggest_float(self, name: str, low: float, high: float, *, step: float | None, log: bool) -> Any:
        return self.values[name]

    def suggest_int(self, name: str, low: int, high: int, *, step: int, log: bool) -> Any:
        return self.values[name]
