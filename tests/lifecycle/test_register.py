"""Which version is the champion."""

import pytest

from pipeline.errors import ConfigError
from pipeline.lifecycle.register import check_name, verdict
from pipeline.tracking.registry import Version


def version(number: str, digest: str = "same", **metrics: float) -> Version:
    named = {f"test/{name}": repr(value) for name, value in metrics.items()}
    return Version(number, {"test.digest": digest, **named})


def test_the_first_of_its_name_is_the_champion() -> None:
    assert verdict(version("1", accuracy=0.5), None) == (True, "the first of its name")


@pytest.mark.parametrize(
    "new, champion, moves",
    [
        ({"accuracy": 0.99, "loss": 0.5}, {"accuracy": 0.98, "loss": 0.1}, True),
        ({"accuracy": 0.98}, {"accuracy": 0.98}, False),
        ({"accuracy": 0.97}, {"accuracy": 0.98}, False),
        ({"loss": 0.1}, {"loss": 0.2}, True),
        ({"loss": 0.3}, {"loss": 0.2}, False),
        ({"accuracy": 0.99}, {"loss": 0.2}, False),
        ({}, {"accuracy": 0.9}, False),
    ],
)
def test_only_a_better_test_result_takes_its_place(
    new: dict[str, float], champion: dict[str, float], moves: bool
) -> None:
    assert verdict(version("2", **new), version("1", **champion))[0] is moves


def test_a_result_on_other_test_data_is_no_better() -> None:
    moves, reason = verdict(version("2", "other", accuracy=0.99), version("1", accuracy=0.5))
    assert not moves and reason.endswith("on other data")


def test_the_reason_has_both_figures() -> None:
    _, reason = verdict(version("2", accuracy=0.99), version("1", accuracy=0.5))
    assert reason == "test/accuracy 0.9900 against version 1's 0.5000"


@pytest.mark.parametrize("name", ["", "a/b", "a:b", "it's", " ", "mnist-cnn ", "."])
def test_a_name_that_mlflow_does_not_take_is_refused_before_anything_is_sent(name: str) -> None:
    with pytest.raises(ConfigError, match="without /, : and '"):
        check_name(name, "cnn-mnist5k")


@pytest.mark.parametrize("name", ["mnist-cnn", "Ziffern groß", "x"])
def test_other_names_are_taken(name: str) -> None:
    assert check_name(name, "cnn-mnist5k") == name
