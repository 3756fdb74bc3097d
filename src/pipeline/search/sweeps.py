"""The command line of a search: which arguments are values to search, and the space that they span."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Glob, IntervalSweep, Override, RangeSweep
from hydra.errors import HydraException

from pipeline.config.overrides import parse_overrides
from pipeline.errors import ConfigError
from pipeline.search.space import Choices, Dimension, NumberRange, SearchSpace

SEARCH_NODE = "search"  # the node, and the group, that a trial does not have
LOCATION_KEYS = ("name", "runs_dir")  # where the search is; its trials have their own
EXAMPLES = "a,b,c or choice(a,b,c), range(1,9), interval(0,0.5), tag(log,interval(1e-4,1e-1)), int(interval(1,8))"


def split_overrides(arguments: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Return ({key: values to search}, all other arguments)."""
    parser = OverridesParser.create()
    values: dict[str, str] = {}
    rest: list[str] = []
    for text in arguments:
        try:
            override = parser.parse_override(text)
        except HydraException:
            rest.append(text)  # the composition refuses it, and explains why
            continue
        if not override.is_sweep_override() or is_search_setting(text):
            rest.append(text)
        elif override.is_add() or override.is_force_add() or override.is_delete():
            raise ConfigError(f"{text}: only a key that exists can have several values; leave out the + or ~ before it")
        else:
            values[override.key_or_group] = text.partition("=")[2]
    return values, rest


def parse_mapping(text: str) -> dict[str, Any]:
    (override,) = parse_overrides([text])
    value = override.value()
    if not isinstance(value, dict):
        raise ConfigError(f"{text}: expected keys and values, such as {text.partition('=')[0]}={{KEY: VALUE}}")
    return {str(key): item for key, item in value.items()}


def key_of(override: str) -> str:
    return override.lstrip("+~").partition("=")[0]


def is_search_setting(override: str) -> bool:
    key = key_of(override)
    return key == SEARCH_NODE or key.startswith((f"{SEARCH_NODE}.", f"{SEARCH_NODE}/"))


def is_launch_setting(override: str) -> bool:
    """Return whether it is for the workers alone; a trial trains where its worker runs."""
    return key_of(override).partition(".")[0] == "launch"


def build_space(
    values: Mapping[str, str], when: Mapping[str, Any], options: Mapping[str, Sequence[str]]
) -> SearchSpace:
    """Build a space from {key: values as typed}, {key: {other key: value or values}} and {group: its options}.

    Raises ConfigError for what cannot be read.
    """
    parser = OverridesParser.create()
    dimensions = {key: _parse_dimension(key, str(text), options, parser) for key, text in values.items()}
    conditions = {key: _parse_condition(key, condition, dimensions) for key, condition in when.items()}
    return SearchSpace({key: dimensions[key] for key in _sort_by_dependency(dimensions, conditions)}, conditions)


def _parse_dimension(key: str, text: str, options: Mapping[str, Sequence[str]], parser: OverridesParser) -> Dimension:
    try:
        override = parser.parse_override(f"{key}={text}")
    except HydraException as problem:
        raise ConfigError(f"{key}={text} cannot be read as values to search; expected {EXAMPLES}") from problem
    sweep: Any = override.value()  # Hydra's annotation omits Glob
    if isinstance(sweep, Glob):
        if key not in options:
            raise ConfigError(f"{key}={text}: glob chooses among the options of a group, but {key} is a value")
        matches = tuple(sweep.filter(list(options[key])))
        if not matches:
            raise ConfigError(f"{key}={text} matches none of the options of {key}: {', '.join(options[key])}")
        return Choices(matches, matches)
    tags: set[str] = getattr(sweep, "tags", set())
    unknown = sorted(tags - {"log"})
    if unknown:
        raise ConfigError(f"{key}={text}: unknown tag {unknown[0]}; the only one is log")
    if isinstance(sweep, IntervalSweep):
        return _parse_interval(key, text, sweep, "log" in tags)
    if "log" in tags:
        raise ConfigError(f"{key}={text}: log is for intervals, {key}=tag(log,interval(1e-4,1e-1))")
    if isinstance(sweep, RangeSweep):
        return _parse_range(key, text, sweep)
    if isinstance(sweep, ChoiceSweep):
        return _parse_choices(override, sweep)
    raise ConfigError(f"{key}={text} is one value; expected several to search: {EXAMPLES}")


def _parse_interval(key: str, text: str, sweep: IntervalSweep, is_log: bool) -> NumberRange:
    low, high = sweep.start, sweep.end
    assert low is not None and high is not None
    if low >= high:
        raise ConfigError(f"{key}={text}: expected the lower end first, then a higher one")
    if is_log and low <= 0:
        raise ConfigError(f"{key}={text}: a logarithmic scale needs a lower end above 0, such as 1e-4")
    is_whole = isinstance(low, int) and isinstance(high, int)
    return NumberRange(low, high, None, is_log, is_whole)


def _parse_range(key: str, text: str, sweep: RangeSweep) -> NumberRange:
    start, stop, step = sweep.start, sweep.stop, sweep.step
    assert start is not None and stop is not None
    count = math.ceil((stop - start) / step - 1e-9) if step > 0 else 0
    if count < 2:
        raise ConfigError(f"{key}={text}: expected range(START,STOP[,STEP]) with two values or more, STOP not included")
    is_whole = all(isinstance(number, int) for number in (start, stop, step))
    return NumberRange(start, start + (count - 1) * step, step, False, is_whole)


def _parse_choices(override: Override, sweep: ChoiceSweep) -> Choices:
    texts = tuple(dict.fromkeys(override.sweep_string_iterator()))
    values = list(sweep.list) if len(sweep.list) == len(texts) else list(texts)
    labels = tuple(
        value if isinstance(value, int | float | bool) or value is None else text
        for value, text in zip(values, texts, strict=True)
    )
    return Choices(labels, texts)


def _parse_condition(key: str, condition: Any, dimensions: Mapping[str, Dimension]) -> dict[str, frozenset[str]]:
    """Read {model: cnn} or {model: [cnn, mlp], optimizer: sgd}; all of them have to hold."""
    typed = f"search.when={{{key}: {condition}}}".replace("'", "")
    if key not in dimensions:
        raise ConfigError(f"{typed}: {key} is not searched; searched are {', '.join(dimensions) or 'none'}")
    if not isinstance(condition, Mapping) or not condition or key in condition:
        raise ConfigError(f"{typed}: expected other keys and their values, such as {{{key}: {{model: [cnn, mlp]}}}}")
    allowed_values: dict[str, frozenset[str]] = {}
    for other, values in condition.items():
        allowed = frozenset(map(str, values if isinstance(values, list) else [values]))
        dimension = dimensions.get(other)
        if isinstance(dimension, Choices) and not allowed & set(dimension.texts):
            raise ConfigError(f"{typed} is never true: {other} is one of {', '.join(dimension.texts)}")
        allowed_values[other] = allowed
    return allowed_values


def _sort_by_dependency(
    dimensions: Mapping[str, Dimension], conditions: Mapping[str, dict[str, frozenset[str]]]
) -> Iterator[str]:
    """Yield the keys, each after those that its condition names. Raises ConfigError for a circle."""
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
