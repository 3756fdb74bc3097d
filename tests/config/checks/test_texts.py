"""An unset variable of the shell leaves nothing behind a key."""

from pathlib import Path

import pytest

from pipeline import cli_args
from pipeline.cli import main
from pipeline.config.checks.check_config import check_config
from pipeline.config.compose import compose
from pipeline.errors import USER_ERROR, ConfigError

KEYS = (
    "runs_dir",
    "name",
    "init_from",
    "tracking.uri",
    "tracking.artifacts",
    "tracking.experiment",
    "data.root",
    "checkpoint.monitor",
    "model.activation",
    "trainer.precision",
    "trainer.accelerator",
    "trainer.strategy",
    "batch.on_out_of_memory",
)
VERBS = {
    "evaluate": ("run", "runs_dir", "data.root"),
    "diagnose": ("run", "runs_dir", "data.root"),
    "report": ("run", "runs_dir"),
    "compare": ("runs", "runs_dir", "output"),
    "resume": ("run", "runs_dir", "tracking.uri", "data.root"),
    "runs": ("runs_dir", "last"),
    "runs show": ("run", "runs_dir"),
    "logs": ("run", "runs_dir"),
    "cancel": ("run", "runs_dir"),
    "ui": ("run", "runs_dir", "port"),
    "sync": ("run", "runs_dir", "upgrade"),
    "register": ("run", "name", "runs_dir"),
    "chaos": ("kills", "chaos_seed", "runs_dir"),
    "search": ("runs_dir", "name", "data.root", "search.storage", "search.save_as", "search.timeout"),
    "search show": ("name", "runs_dir"),
    "search list": ("runs_dir",),
    "new-data": ("name", "kind", "package"),
    "new-model": ("name", "package"),
}


def refusal(*overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        _check(overrides)
    return str(caught.value)


def _check(overrides: tuple[str, ...]) -> None:
    composed = compose(overrides)
    check_config(composed.config, composed.shipped)


@pytest.mark.parametrize("value", ["", "' '", "'\t'"])
@pytest.mark.parametrize("key", KEYS)
def test_an_empty_text_is_no_value(key: str, value: str) -> None:
    assert refusal(f"{key}={value}").startswith(f"{key}= has nothing after it")


@pytest.mark.parametrize(
    "overrides, key",
    [
        (("launch=slurm", "launch.partition="), "launch.partition"),
        (("launch=slurm", "launch.setup=['']"), "launch.setup.0"),
        (("launch=slurm", "launch.time="), "launch.time"),
        (("launch=torchrun", "launch.rendezvous="), "launch.rendezvous"),
        (("launch=kubernetes", "launch.image="), "launch.image"),
        (("launch=kubernetes", "launch.namespace="), "launch.namespace"),
        (("data=image_folder", "data.root=x", "data.source.labels="), "data.source.labels"),
        (("data=table", "data.root=x", "data.source.target="), "data.source.target"),
        (("+callbacks.x={_target_: pytorch_lightning.callbacks.ModelCheckpoint, dirpath: ''}",), "callbacks.x.dirpath"),
    ],
)
def test_of_no_option(overrides: tuple[str, ...], key: str) -> None:
    assert refusal(*overrides).startswith(f"{key}= has nothing after it")


def test_nor_in_a_file(elsewhere: Path) -> None:
    (elsewhere / "conf/experiment").mkdir(parents=True)
    (elsewhere / "conf/experiment/mine.yaml").write_text("# @package _global_\nruns_dir: ''\n")
    assert refusal("experiment=mine").startswith("runs_dir= has nothing after it")


def test_it_says_what_to_type() -> None:
    assert "to give it  data.root=VALUE\n  else        data.root=null" in refusal("data.root=")
    assert "else        leave it out, it is runs then" in refusal("runs_dir=")


@pytest.mark.parametrize(
    "overrides",
    [
        (
            "data=text_table",
            "data.root=null",
            "data.source.target=a",
            "data.source.text=b",
            "data.source.label_separator=' '",
        ),
        ("launch=kubernetes", "launch.image=a", "launch.labels={a: ''}", "launch.environment={A: ''}"),
    ],
)
def test_a_blank_may_separate_and_a_value_of_ones_own_be_empty(overrides: tuple[str, ...]) -> None:
    assert _passes(overrides)


def _passes(overrides: tuple[str, ...]) -> bool:
    try:
        _check(overrides)
    except ConfigError as problem:
        return "has nothing after it" not in str(problem)
    return True


@pytest.mark.parametrize("verb, key", [(verb, key) for verb, keys in VERBS.items() for key in keys])
def test_no_verb_takes_one(verb: str, key: str, empty_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    needed = ["seed=1,2"] if verb == "search" else []
    assert main([*verb.split(), *needed, f"{key}="]) == USER_ERROR
    said = capsys.readouterr().err
    assert said.startswith(f"error: {key}= has nothing after it") or (verb == "resume" and "there is no run" in said)
    assert list(empty_folder.iterdir()) == []


@pytest.mark.parametrize("verb", ["sync", "register"])
def test_nor_an_address_that_leads_nowhere(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "tracking.uri=htp://host"]) == USER_ERROR
    assert "did you mean  tracking.uri=http://host" in capsys.readouterr().err


def test_what_was_not_typed_may_be_empty() -> None:
    assert cli_args.named_values([], {"output": ""}) == {"output": ""}
