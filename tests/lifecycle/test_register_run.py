"""Which version is the champion."""

from pathlib import Path

import pytest

from pipeline.errors import ConfigError
from pipeline.lifecycle import register_run
from pipeline.lifecycle.register_run import check_model_name, compare_with_champion, describe_test_set
from pipeline.metrics import mode_of
from pipeline.runs.model_selection import ValidationScore, record_test_use, score_from_tags, validation_score
from pipeline.runs.run_directory import Run
from pipeline.tracking.journal import Journal, read_journal
from pipeline.tracking.mlflow.registry import RegisteredModel


def version(
    number: str, value: float, metric: str = "val/loss", samples: str = "same", **test: float
) -> RegisteredModel:
    score = ValidationScore(metric, mode_of(metric) or "min", value, samples)
    return RegisteredModel(
        number, {"test.digest": "t", **score.tags(), **{f"test/{name}": repr(each) for name, each in test.items()}}
    )


def test_the_first_of_its_name_is_the_champion() -> None:
    assert compare_with_champion(version("1", 0.5), None) == (True, "the first of its name")


@pytest.mark.parametrize(
    "new, champion, moves",
    [
        (version("2", 0.3, accuracy=0.90), version("1", 0.4, accuracy=0.99), True),
        (version("2", 0.4, accuracy=0.99), version("1", 0.3, accuracy=0.90), False),
        (version("2", 0.9, "val/accuracy", accuracy=0.1), version("1", 0.8, "val/accuracy", accuracy=0.9), True),
        (version("2", 0.3), version("1", 0.3), False),
        (version("2", float("nan")), version("1", 0.3), False),
        (version("2", 0.3), version("1", float("nan")), True),
    ],
)
def test_only_a_better_validation_score_takes_its_place_whatever_the_test_set_says(
    new: RegisteredModel, champion: RegisteredModel, moves: bool
) -> None:
    assert compare_with_champion(new, champion)[0] is moves


@pytest.mark.parametrize(
    "new, champion, reason",
    [
        (version("2", 0.1, samples="other"), version("1", 0.9), "but on other validation samples"),
        (version("2", 0.1, samples=""), version("1", 0.9, samples=""), "but on other validation samples"),
        (version("2", 0.1), version("1", 0.9, "val/accuracy"), "val/loss chose this one and val/accuracy version 1"),
        (version("2", 0.1), RegisteredModel("1", {"test/accuracy": "0.5"}), "version 1 has no validation score"),
        (RegisteredModel("2", {}), version("1", 0.9), "version 2 has no validation score"),
        (
            version("2", 0.1),
            RegisteredModel("1", {**version("1", 0.9).tags, "validation.value": "high"}),
            "version 1 has no",
        ),
    ],
)
def test_what_cannot_be_compared_replaces_nobody(new: RegisteredModel, champion: RegisteredModel, reason: str) -> None:
    moves, told = compare_with_champion(new, champion)
    assert not moves and told.startswith("not comparable, ") and reason in told


def test_the_reason_has_both_figures() -> None:
    assert (
        compare_with_champion(version("2", 0.25), version("1", 0.5))[1] == "val/loss 0.2500 against version 1's 0.5000"
    )


def test_the_figures_of_test_stand_beside_it() -> None:
    new, champion = version("2", 0.25, accuracy=0.99), version("1", 0.5, accuracy=0.98)
    assert list(describe_test_set(new, champion, 3)) == [
        "test/accuracy 0.9900, version 1's 0.9800; it selects nothing",
        "used 3 times in this MLflow, each time with other weights",
    ]
    elsewhere = RegisteredModel("1", {**champion.tags, "test.digest": "other"})
    assert "0.9800 on another test set" in next(iter(describe_test_set(new, elsewhere, 1)))


class TestTheScoreOfARun:
    def run(self, folder: Path, **assembled: object) -> Run:
        run = Run(folder)
        run.config_path.write_text(
            "checkpoint: {monitor: val/loss, mode: min}\nname: cnn\ndata: {}\nmodel: {}\ntrainer: {}\n"
            "tracking: {uri: null, artifacts: null}\nlaunch: {_target_: pipeline.launch.local.Local}\n"
        )
        sizes = {
            "model": {"name": "CNN", "parameters": 1},
            "devices": {"count": 1, "kind": "cpu", "precision": "32-true"},
        }
        run.write_json("assembled.json", {"data": None, **sizes, **assembled})
        journal = Journal(run.journal_path)
        for step, loss in ((10, 0.5), (20, 0.3), (30, 0.4)):
            journal.metrics({"val/loss": loss, "val_acc": 1 - loss}, step=step)
        journal.close()
        return run

    def test_is_that_of_its_best_weights(self, tmp_path: Path) -> None:
        run = self.run(tmp_path, validation_digest="d", monitor={"monitor": "val_acc", "mode": "max"})
        assert validation_score(run) == ValidationScore("val_acc", "max", 0.7, "d")

    def test_of_an_older_version_is_known_but_not_its_samples(self, tmp_path: Path) -> None:
        assert validation_score(self.run(tmp_path)) == ValidationScore("val/loss", "min", 0.3, "")

    def test_is_none_where_nothing_was_monitored(self, tmp_path: Path) -> None:
        assert validation_score(self.run(tmp_path, monitor=None)) is None

    def test_survives_its_way_through_the_registry(self) -> None:
        score = ValidationScore("val/loss", "min", 0.1 + 0.2, "d")
        assert score_from_tags(score.tags()) == score


def test_a_look_at_a_test_set_is_noted_once_for_the_same_weights(tmp_path: Path) -> None:
    run, journal = Run(tmp_path), Journal(tmp_path / "journal.jsonl")
    for weights in ("step-1.ckpt", "step-1.ckpt", "step-2.ckpt", "step-1.ckpt"):
        record_test_use(run, "a" * 64, weights, journal)
    record_test_use(run, "b" * 64, "step-1.ckpt", journal)
    journal.close()
    tags = [record["tags"] for record, _ in read_journal(run.journal_path)]
    first, other = "test_looks." + "a" * 12, "test_looks." + "b" * 12
    assert tags == [{first: "step-1.ckpt"}, {first: "step-1.ckpt step-2.ckpt"}, {other: "step-1.ckpt"}]


@pytest.mark.parametrize("name", ["", "a/b", "a:b", "it's", " ", "mnist-cnn ", "."])
def test_a_name_that_mlflow_does_not_take_is_refused_before_anything_is_sent(name: str) -> None:
    with pytest.raises(ConfigError, match="without /, : and '"):
        check_model_name(name, "cnn-mnist5k")


@pytest.mark.parametrize("name", ["mnist-cnn", "Ziffern groß", "x"])
def test_other_names_are_taken(name: str) -> None:
    check_model_name(name, "cnn-mnist5k")


def test_a_version_is_tagged_with_how_often_its_test_set_was_used(tmp_path: Path) -> None:
    assert register_run._tags(TestTheScoreOfARun().run(tmp_path), {}, "digest", 3)["test.looks"] == "3"
