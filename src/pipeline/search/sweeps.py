"""Hydra's sweep syntax, read as a space to search."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Glob, IntervalSweep, Override, RangeSweep
from hydra.errors import HydraException

from pipeline.errors import ConfigError
from pipeline.search.space import Choices, Dimension, Numbers, Space

EXAMPLES = "a,b,c or choice(a,b,c), range(1,9), interval(0,0.5), tag(log,interval(1e-4,1e-1)), int(interval(1,8))"


def build(values: Mapping[str, str], when: Mapping[str, Any], options: Mapping[str, Sequence[str]]) -> Space:
    """From {key: values as typed}, {key: {other key: value or values}} and {group: its options} for `glob`.

    Raises ConfigError for what cannot be read.
    """
    parser = OverridesParser.create()
    dimensions = {key: _dimension(key, str(text), options, parser) for key, text in values.items()}
    conditions = {key: _condition(key, wanted, dimensions) for key, wanted in when.items()}
    return Space({key: dimensions[key] for key in _in_order(dimensions, conditions)}, conditions)


def _dimension(key: str, text: str, options: Mapping[str, Sequence[str]], parser: OverridesParser) -> Dimension:
    try:
        override = parser.parse_override(f"{key}={text}")
    except HydraException as problem:
        raise ConfigError(f"{key}={text} cannot be read as values to search; expected {EXAMPLES}") from problem
    sweep: Any = override.value()  # the annotation of Hydra's leaves Glob out
    if isinstance(sweep, Glob):
        if key not in options:
            raise ConfigError(f"{key}={text}: glob chooses among the options of a group, and {key} is a value")
        chosen = tuple(sweep.filter(list(options[key])))
        if not chosen:
            raise ConfigError(f"{key}={text} fits none of the options of {key}: {', '.join(options[key])}")
        return Choices(chosen, chosen)
    tags: set[str] = getattr(sweep, "tags", set())
    unknown = sorted(tags - {"log"})
    if unknown:
        raise ConfigError(f"{key}={text}: the tag {unknown[0]} means nothing here; the only one is log")
    if isinstance(sweep, IntervalSweep):
        return _interval(key, text, sweep, "log" in tags)
    if "log" in tags:
        raise ConfigError(f"{key}={text}: log is for intervals, {key}=tag(log,interval(1e-4,1e-1))")
    if isinstance(sweep, RangeSweep):
        return _range(key, text, sweep)
    if isinstance(sweep, ChoiceSweep):
        return _choices(override, sweep)
    raise ConfigError(f"{key}={text} is one value; expected several to search: {EXAMPLES}")


def _interval(key: str, text: str, sweep: IntervalSweep, is_log: bool) -> Numbers:
    low, high = sweep.start, sweep.end
    assert low is not None and high is not None
    if low >= high:
        raise ConfigError(f"{key}={text}: expected the lower end first, and a higher one after it")
    if is_log and low <= 0:
        raise ConfigError(
            f"{key}={text}: a logarithmic scale has no {low:g}; expected a lower end above 0, such as 1e-4"
        )
    is_whole = isinstance(low, int) and isinstance(high, int)
    return Numbers(low, high, None, is_log, is_whole)


def _range(key: str, text: str, sweep: RangeSweep) -> Numbers:
    start, stop, step = sweep.start, sweep.stop, sweep.step
    assert start is not None and stop is not None
    count = math.ceil((stop - start) / step - 1e-9) if step > 0 else 0
    if count < 2:
        raise ConfigError(f"{key}={text}: expected range(START,STOP[,STEP]) with two values or more, STOP not included")
    is_whole = all(isinstance(each, int) for each in (start, stop, step))
    return Numbers(start, start + (count - 1) * step, step, False, is_whole)


def _choices(override: Override, sweep: ChoiceSweep) -> Choices:
    texts = tuple(dict.fromkeys(override.sweep_string_iterator()))
    plain = list(sweep.list) if len(sweep.list) == len(texts) else list(texts)
    labels = tuple(
        value if isinstance(value, int | float | bool) or value is None else text
        for value, text in zip(plain, texts, strict=True)
    )
    return Choices(labels, texts)


def _condition(key: str, wanted: Any, dimensions: Mapping[str, Dimension]) -> dict[str, frozenset[str]]:
    """From {model: cnn} or {model: [cnn, mlp], optimizer: sgd}, all of which have to hold."""
    said = f"search.when={{{key}: {wanted}}}".replace("'", "")
    if key not in dimensions:
        raise ConfigError(f"{said}: {key} is not searched; searched are {', '.join(dimensions) or 'none'}")
    if not isinstance(wanted, Mapping) or not wanted or key in wanted:
        raise ConfigError(f"{said}: expected other keys and their values, such as {{{key}: {{model: [cnn, mlp]}}}}")
    found: dict[str, frozenset[str]] = {}
    for other, values in wanted.items():
        allowed = frozenset(map(str, values if isinstance(values, list) else [values]))
        dimension = dimensions.get(other)
        if isinstance(dimension, Choices) and not allowed & set(dimension.texts):
            raise ConfigError(f"{said} is never true: {other} is one of {', '.join(dimension.texts)}")
        found[other] = allowed
    return found


def _in_order(
    dimensions: Mapping[str, Dimension], conditions: Mapping[str, dict[str, frozenset[str]]]
) -> Iterator[str]:
    """Whatever another one depends on comes before it. Raises ConfigError for a circle."""
    done: list[str] = []

    def visit(key: str, path: tuple[str, ...]) -> Iterator[str]:
        if key in path:
            raise ConfigError(f"search.when goes round in a circle: {' -> '.join((*path, key))}")
        if key in done:
            return
        for other in conditions.get(key, {}):
            if other in dimensions:
                yield from visit(other, (*path, key))
        done.append(key)
        yield key

    for key in dimensions:
        yield from visit(key, ())
