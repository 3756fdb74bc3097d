"""LightningModules and LightningDataModules as Lightning's guides write them, through the whole life of a run."""

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ALLOWED = "allow_packages=[my_package]"
MODULES = Path(__file__).with_name("tutorials")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """With the package, and an option for each class in it."""
    home = tmp_path / "home"
    shutil.copytree(MODULES, home / "my_package", ignore=shutil.ignore_patterns("__pycache__"))
    for group, module in (("model", "modules"), ("data", "data")):
        (home / "conf" / group).mkdir(parents=True)
        for line in (MODULES / f"{module}.py").read_text().splitlines():
            if line.startswith("class "):
                name = line.removeprefix("class ").partition("(")[0]
                (home / "conf" / group / f"{name}.yaml").write_text(f"_target_: my_package.{module}.{name}\n")
    return home


def test_a_module_and_its_data_train_with_no_further_setting(program: Any, home: Path) -> None:
    words = (ALLOWED, "model=Classifier", "data=Points", "tracking=none", "trainer.max_epochs=3")
    ended = program.run(home, "train", *words)
    assert ended.code == 0 and ended.err == "", ended.err
    told = [line for line in ended.out.splitlines() if line.startswith("monitors")]
    assert told == ["monitors    val_loss, where lower is better: Classifier logs no val/loss"]
    assert "epoch 3/3  step 24  val_loss 0." in ended.out
    metrics = program.result(program.only_run(home))["metrics"]
    assert metrics["test_acc"] > 0.9 and set(metrics) == {"test_acc", "test_loss"}
    judged = program.run(home, "evaluate")
    assert judged.code == 0 and f"{metrics['test_loss']:.4f}" in judged.out
    page = (program.only_run(home) / "report.html").read_text()
    assert "the lowest val_loss" in page and "Learning curves" in page
    for epochs in (4, 5):  # what is monitored is remembered, also by the second
        resumed = program.run(home, "resume", f"trainer.max_epochs={epochs}")
        assert resumed.code == 0 and f"epoch {epochs}/{epochs}  step {8 * epochs}  val_loss 0." in resumed.out, (
            resumed.err
        )


@pytest.mark.slow
@pytest.mark.parametrize(
    "model, data, monitored",
    [
        ("TrainingLossOnly", "TrainingOnly", "nothing"),
        ("EpochLossOnly", "TrainingOnly", "train_loss"),
        ("Classifier", "Points", "val_loss"),
        ("SharedStep", "Points", "val/cross_entropy_loss"),
        ("AtTheEpochsEnd", "Points", "avg_val_loss"),
        ("WithObjects", "Points", "val_loss"),
        ("TwoLoaders", "TwoValidations", "val_loss/dataloader_idx_0"),
        ("Adversaries", "TrainingOnly", "nothing"),
        ("Classifier", "Stream", "val_loss"),
        ("Classifier", "mnist5k", "val_loss"),
    ],
)
def test_killed_it_goes_on_and_is_judged_reported_and_refused_by_the_registry(
    program: Any, watched: Callable[[Any], Any], home: Path, model: str, data: str, monitored: str
) -> None:
    words = (ALLOWED, f"model={model}", f"data={data}", "tracking=none", "checkpoint.every_n_steps=5")
    patient = "callbacks.early_stopping.patience=1000000"
    under_way = watched(program.start(home, "train", *words, patient, "trainer.max_epochs=200"))
    under_way.reaches(100)
    for trainer in under_way.trainers():
        os.kill(trainer.pid, signal.SIGKILL)
    assert under_way.end().code == 137
    resumed = program.run(home, "resume")
    assert resumed.code == 0 and resumed.err == "", resumed.err
    assert "goes on at" in resumed.out and "epoch 200/200" in resumed.out
    assert f"monitors    {monitored}" in under_way.out.read_text() and "monitors " not in resumed.out
    longer = program.run(home, "resume", "trainer.max_epochs=205")
    if model == "SharedStep":  # whose OneCycleLR ends with the training that it was made for
        assert longer.code == 2 and "was made for total_steps=" in longer.err
    else:
        assert longer.code == 0 and "epoch 205/205" in longer.out, longer.err
    best = program.only_run(home) / "checkpoints/best.ckpt"
    assert best.exists() is (monitored != "nothing")
    for verb in ("evaluate", "report", "diagnose"):
        ended = program.run(home, verb)
        assert ended.code == 0 and "Traceback" not in ended.err, (verb, ended.err)
    refused = program.run(home, "register", "name=mine")
    assert refused.code == 2 and "tracking=none" in refused.err


@pytest.mark.slow
def test_a_network_of_ours_needs_to_know_what_the_data_is(program: Any, home: Path) -> None:
    ended = program.run(home, "train", ALLOWED, "data=Points", "tracking=none")
    assert ended.code == 2 and "give it an attribute spec" in ended.err
    assert program.runs_in(home) == []


@pytest.mark.slow
def test_what_lightning_itself_refuses_is_one_sentence(program: Any, home: Path) -> None:
    ended = program.run(home, "train", ALLOWED, "model=Classifier", "data=TwoValidations", "tracking=none")
    assert ended.code == 2 and "Traceback" not in ended.err
    assert "Lightning refuses this: You provided multiple `val_dataloader`" in ended.err


@pytest.mark.slow
def test_a_whole_module_that_mlflow_tracks_is_refused_by_the_registry_with_the_reason(program: Any, home: Path) -> None:
    words = (ALLOWED, "model=Classifier", "data=Points", "trainer.max_epochs=2")
    ended = program.run(home, "train", *words)
    assert ended.code == 0, ended.err
    refused = program.run(home, "register", "name=mine")
    assert refused.code == 2 and "a module of your own is not exported" in refused.err
