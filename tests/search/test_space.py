from typing import Any

import pytest

from pipeline.errors import ConfigError
from pipeline.search.space import Choices, NumberRange
from pipeline.search.sweeps import build_space

OPTIONS = {"model": ["cnn", "mlp", "softmax_regression"], "optimizer": ["adamw", "sgd"]}


class Last:
    """Chooses the last or highest."""

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        return choices[-1]

    def suggest_float(self, name: str, low: float, high: float, *, step: float | None, log: bool) -> float:
        return high

    def suggest_int(self, name: str, low: int, high: int, *, step: int, log: bool) -> int:
        return high


@pytest.mark.parametrize(
    "text, expected",
    [
        ("interval(0,0.5)", NumberRange(0.0, 0.5, None, False, False)),
        ("interval(1,8)", NumberRange(1.0, 8.0, None, False, False)),
        ("int(interval(1,8))", NumberRange(1, 8, None, False, True)),
        ("tag(log,interval(1e-4,1e-1))", NumberRange(1e-4, 1e-1, None, True, False)),
        ("tag(log,int(interval(16,256)))", NumberRange(16, 256, None, True, True)),
        ("range(1,4)", NumberRange(1, 3, 1, False, True)),
        ("range(16,65,16)", NumberRange(16, 64, 16, False, True)),
        ("range(0,0.5,0.1)", NumberRange(0, 0.4, 0.1, False, False)),
        ("1,2,3", Choices((1, 2, 3), ("1", "2", "3"))),
        ("choice(relu,gelu)", Choices(("relu", "gelu"), ("relu", "gelu"))),
        ("true,false", Choices((True, False), ("True", "False"))),
        ("null,1.0", Choices((None, 1.0), ("null", "1.0"))),
        ("[16,32],[32,64]", Choices(("[16,32]", "[32,64]"), ("[16,32]", "[32,64]"))),
    ],
)
def test_hydras_sweep_syntax_says_what_is_searched(text: str, expected: Any) -> None:
    found = build_space({"key": text}, {}, OPTIONS).dimensions["key"]
    if isinstance(expected, NumberRange):
        assert isinstance(found, NumberRange)
        assert (found.low, found.step, found.is_log, found.is_whole) == (
            pytest.approx(expected.low),
            expected.step,
            expected.is_log,
            expected.is_whole,
        )
        assert found.high == pytest.approx(expected.high)
    else:
        assert found == expected


def test_glob_chooses_among_the_options_of_a_group() -> None:
    assert build_space({"model": "glob([c*,m*])"}, {}, OPTIONS).dimensions["model"] == Choices(
        ("cnn", "mlp"), ("cnn", "mlp")
    )


@pytest.mark.parametrize(
    "values, when, told",
    [
        ({"seed": "1"}, {}, "seed=1 is one value; expected several"),
        ({"lr": "interval(1,0)"}, {}, "expected the lower end first"),
        ({"lr": "tag(log,interval(0,1))"}, {}, "a logarithmic scale needs a lower end above 0"),
        ({"lr": "tag(log,range(1,4))"}, {}, "log is for intervals"),
        ({"lr": "tag(lin,interval(0,1))"}, {}, "unknown tag lin"),
        ({"depth": "range(4,1)"}, {}, "expected range"),
        ({"depth": "interval(1"}, {}, "cannot be read as values to search"),
        ({"model": "glob(x*)"}, {}, "matches none of the options of model: cnn, mlp"),
        ({"depth": "glob(*)"}, {}, "depth is a value"),
        ({"model": "cnn,mlp"}, {"depth": {"model": "cnn"}}, "depth is not searched"),
        ({"model": "cnn,mlp", "depth": "1,2"}, {"depth": {"model": "rnn"}}, "is never true: model is one of cnn, mlp"),
        ({"model": "cnn,mlp", "depth": "1,2"}, {"depth": "cnn"}, "expected other keys and their values"),
        ({"a": "1,2", "b": "1,2"}, {"a": {"b": 1}, "b": {"a": 1}}, "goes round in a circle: a -> b -> a"),
    ],
)
def test_what_cannot_be_searched_is_refused_with_what_was_expected(
    values: dict[str, str], when: dict[str, str], told: str
) -> None:
    with pytest.raises(ConfigError, match=told.replace("(", r"\(")):
        build_space(values, when, OPTIONS)


def test_a_key_is_searched_only_where_its_condition_holds() -> None:
    space = build_space({"model.depth": "range(1,4)", "model": "cnn,mlp"}, {"model.depth": {"model": "mlp"}}, OPTIONS)
    assert space.suggest(Last(), {}) == {"model": "mlp", "model.depth": 3}
    other = build_space({"model.depth": "range(1,4)", "model": "mlp,cnn"}, {"model.depth": {"model": "mlp"}}, OPTIONS)
    assert other.suggest(Last(), {}) == {"model": "cnn"}


def test_a_condition_may_be_on_an_option_that_no_trial_changes() -> None:
    space = build_space(
        {"model.depth": "range(1,4)"}, {"model.depth": {"model": "cnn", "optimizer": ["sgd", "adamw"]}}, OPTIONS
    )
    assert space.suggest(Last(), {"model": "cnn", "optimizer": "sgd"}) == {"model.depth": 3}
    assert space.suggest(Last(), {"model": "mlp", "optimizer": "sgd"}) == {}


def test_all_combinations_are_there_once_and_without_what_does_not_apply() -> None:
    space = build_space(
        {"model": "mlp,cnn", "seed": "1,2", "model.depth": "range(1,3)"}, {"model.depth": {"model": "cnn"}}, OPTIONS
    )
    assert space.combinations({}) == [
        {"model": "mlp", "seed": 1},
        {"model": "mlp", "seed": 2},
        {"model": "cnn", "seed": 1, "model.depth": 1},
        {"model": "cnn", "seed": 1, "model.depth": 2},
        {"model": "cnn", "seed": 2, "model.depth": 1},
        {"model": "cnn", "seed": 2, "model.depth": 2},
    ]


def test_between_two_numbers_there_is_no_finite_number_of_combinations() -> None:
    with pytest.raises(ConfigError, match=r"lr is searched between two numbers.*search\.n_trials=50"):
        build_space({"lr": "interval(0,1)"}, {}, OPTIONS).combinations({})


def test_a_value_becomes_the_override_that_was_typed() -> None:
    space = build_space({"model.widths": "[16,32],[32,64]", "lr": "interval(0,1)", "act": "relu,null"}, {}, OPTIONS)
    assert space.overrides({"model.widths": "[32,64]", "lr": 0.1 + 0.2, "act": None}) == [
        "model.widths=[32,64]",
        "lr=0.30000000000000004",
        "act=null",
    ]
