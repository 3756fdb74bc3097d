"""Values that stand where nothing reads them."""

from pathlib import Path

import pytest

from pipeline.config.checks.missing_and_unread_keys import check_unread_keys
from pipeline.config.compose import compose
from pipeline.errors import ConfigError

FIRST_LINE = "# @package _global_"


@pytest.fixture
def conf(elsewhere: Path) -> Path:
    return elsewhere / "conf"


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def refusal(*overrides: str, config_name: str = "train") -> str:
    composed = compose(overrides, config_name=config_name)
    with pytest.raises(ConfigError) as caught:
        check_unread_keys(composed)
    return str(caught.value)


def passes(*overrides: str, config_name: str = "train") -> bool:
    check_unread_keys(compose(overrides, config_name=config_name))
    return True


@pytest.mark.parametrize(
    "name, typed",
    [
        ("experiment/mine", "experiment=mine"),
        ("experiment/mine", "experiment=[mnist5k,mine]"),
        ("experiment/deep/mine", "+experiment/deep=mine"),
        ("remedy/mine", "remedy=mine"),
        ("remedy/mine", "remedy=[dropout,mine]"),
        ("of_my_own/mine", "+of_my_own=mine"),
    ],
)
def test_a_file_without_its_first_line_is_told_of_it(conf: Path, name: str, typed: str) -> None:
    path = write(conf / f"{name}.yaml", "trainer: {max_epochs: 1}\n")
    said = refusal(typed)
    assert said.startswith(f"{path} sets trainer below ") and "where nothing reads it" in said
    assert said.endswith(FIRST_LINE)
    path.write_text(f"{FIRST_LINE}\ntrainer: {{max_epochs: 1}}\n")
    assert passes(typed)


def test_a_package_that_nothing_reads_is_named(conf: Path) -> None:
    write(conf / "experiment/mine.yaml", "# @package recipe.mine\ntrainer: {max_epochs: 1}\n")
    said = refusal("experiment=mine")
    assert "below recipe.mine, where" in said and "in place of  # @package recipe.mine" in said


def test_a_package_that_something_reads_passes(conf: Path) -> None:
    write(conf / "experiment/mine.yaml", "# @package trainer\nmax_epochs: 1\n")
    assert passes("experiment=mine")


@pytest.mark.parametrize("typed", ["+note=hello", "+note={a: 1}", "+notes.of.mine=3", "++note=hello"])
def test_what_is_typed_and_read_by_nobody_is_refused(typed: str) -> None:
    said = refusal(typed)
    assert said.startswith("note") and "nothing reads it, and no other value refers to it" in said


@pytest.mark.parametrize(
    "typed",
    [
        ("+width=8", "model.widths=['${width}']"),
        ("+mine={width: 8}", "model.widths=['${mine.width}']"),
        ("+a=8", "+b='${a}'", "seed='${b}'"),
        ("+tracking.place=x", "tracking.uri='sqlite:///${.place}.db'"),
    ],
)
def test_a_variable_that_others_refer_to_passes(typed: tuple[str, ...]) -> None:
    assert passes(*typed)


def test_one_that_refers_to_itself_alone_does_not() -> None:
    assert "note: nothing reads it" in refusal("+note={a: 1, b: '${note.a}'}")


def test_nor_does_one_of_the_users_own_primary_configuration(conf: Path) -> None:
    path = write(conf / "mine.yaml", "defaults: [train, _self_]\nnote: hello\n")
    assert refusal(config_name="mine").startswith(f"note=hello in {path}: nothing reads it")
    path.write_text("defaults: [train, _self_]\ntracking: {place: hello}\n")
    assert refusal(config_name="mine").startswith("tracking.place does not exist")
    path.write_text("defaults: [train, _self_]\nseed: 3\n")
    assert passes(config_name="mine")


def test_nor_one_of_an_option_that_has_no_class(conf: Path) -> None:
    write(conf / "tracking/mine.yaml", "uri: null\nartifacts: null\nexperiment: null\nurl: hello\n")
    assert refusal("tracking=mine").startswith("tracking.url does not exist\n  did you mean  tracking.uri ?")
    write(conf / "callbacks/mine.yaml", "patience: 3\n")
    assert refusal("callbacks=mine").startswith("callbacks.patience does not exist")


def test_what_a_search_reads_a_training_does_not() -> None:
    assert passes("search.n_trials=3", config_name="search")
    assert "nothing reads it" in refusal("+search.n_trials=3")
