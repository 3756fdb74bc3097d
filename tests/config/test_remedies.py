"""What a refusal says to type is itself accepted."""

import re
import shlex
from pathlib import Path

import pytest

from pipeline.cli import main
from pipeline.config.checks.check_config import check_config
from pipeline.config.compose import compose
from pipeline.search import plan


@pytest.fixture
def own_data(elsewhere: Path) -> Path:
    for name in ("good.csv", "rows.parquet", "reviews.jsonl", "cats/a/1.png", "birds/b/1.wav", "tables/x.csv"):
        file = elsewhere / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return elsewhere


def told(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["train", *words]) == 2
    return capsys.readouterr().err


def accept(*words: str) -> None:
    """Raises ConfigError for what is refused."""
    composed = compose(words)
    check_config(composed.config, composed.shipped)


@pytest.mark.parametrize(
    "data, expected",
    [
        ("./good.csv", "data=table data.root=good.csv data.source.target=COLUMN model=mlp"),
        ("rows.parquet", "data=table data.root=rows.parquet data.source.target=COLUMN model=mlp"),
        ("reviews.jsonl", "data=text_table data.root=. data.source.train=reviews.jsonl model=gru"),
        ("cats", "data=image_folder data.root=cats"),
        ("./birds/", "data=audio_folder data.root=birds"),
        ("tables", "data=table data.root=tables/x.csv data.source.target=COLUMN model=mlp"),
    ],
)
def test_a_path_in_place_of_an_option_is_answered_with_the_option_that_reads_it(
    data: str, expected: str, own_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = told(capsys, f"data={data}")
    assert answer.splitlines()[1] == f"  to train on it  {expected}"
    accept(*shlex.split(expected))


@pytest.mark.parametrize("typed", ["model=mlp,cnn", "optimizer.learning_rate=0.1,0.2", "seed=range(3)"])
def test_several_values_are_sent_to_a_search(typed: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = re.search("pipeline search (.*)", told(capsys, typed))
    assert command is not None
    assert shlex.split(command[1]) == [typed]
    plan.create_plan([typed])


@pytest.mark.parametrize(
    "typed, expected",
    [
        ("data.num_workers=4", "data is fed without worker processes"),
        ("num_workers=4", "leave it out"),
        ("data.shuffle=true", "leave it out"),
        ("data.pin_memory=true", "leave it out"),
        ("lr=0.1", "optimizer.learning_rate=VALUE"),
        ("model.lr=0.1", "optimizer.learning_rate=VALUE"),
        ("epochs=3", "trainer.max_epochs=VALUE"),
        ("gpus=2", "trainer.accelerator=gpu trainer.devices=1"),
        ("data.path=x", "data.root=PATH"),
    ],
)
def test_the_words_of_other_programs_are_translated(
    typed: str, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = told(capsys, typed)
    assert expected in answer
    assert "num_nodes" not in answer
    remedy = re.search("type  (.*)", answer)
    if remedy is not None:
        accept(*remedy[1].replace("VALUE", typed.partition("=")[2]).replace("PATH", ".").split())


@pytest.mark.parametrize(
    "typed",
    [
        "trainer.max_epoch=3",
        "trainer.accelerator=cdua",
        "trainer.strategy=dpp",
        "trainer.precision=bf15-mixed",
        "trainer.max_epochs=1e3",
        "trainer.max_epochs='7'",
        "trainer.batch_size=64",
        "batch_size=64",
        "max_epochs=3",
        "dropout=0.1",
        "optimizer.weight_decy=0.1",
        "scheduler=cosin",
        "callbacks=[default,emaa]",
        "model=cnnn",
        "model=MLP",
        "model.activation=rellu",
        "data.on_copies=drp",
        "checkpoint.kep=3",
        "callbacks.early_stopping.mode=mn",
        "batch.on_out_of_memory=halv",
    ],
)
def test_every_suggestion_is_accepted(typed: str, capsys: pytest.CaptureFixture[str]) -> None:
    meant = re.search(r"did you mean  (.*) \?", told(capsys, typed))
    assert meant is not None
    for suggestion in meant[1].split(" or "):
        words = suggestion if "=" in suggestion else f"{suggestion}={typed.partition('=')[2]}"
        accept(words)
