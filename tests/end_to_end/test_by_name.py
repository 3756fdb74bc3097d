"""A command that is given again, and a run that starts from the weights of another one."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.training import checkpoints

NAMED = ("name=long", "auto_resume=true", "seed=7")


@pytest.fixture(scope="module")
def trained(program: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root: Path = tmp_path_factory.mktemp("by_name") / "home"
    ended = program.run(root, "train", *program.SMALL, *NAMED, "trainer.max_epochs=1")
    assert ended.code == 0, ended.err
    return root


@pytest.fixture
def home(trained: Path, tmp_path: Path) -> Path:
    """A copy of the folder with the run of one epoch."""
    return Path(shutil.copytree(trained, tmp_path / "home", symlinks=True))


def test_the_same_command_again_finds_the_run_finished(program: Any, home: Path) -> None:
    again = program.run(home, "train", *program.SMALL, *NAMED, "trainer.max_epochs=1")
    assert again.code == 0 and "is finished" in again.out
    assert len(program.runs_in(home)) == 1


def test_with_more_epochs_it_goes_on_in_the_same_directory(program: Any, home: Path) -> None:
    longer = program.run(home, "train", *program.SMALL, *NAMED, "trainer.max_epochs=2")
    assert longer.code == 0, longer.err
    assert "goes on at  step" in longer.out
    assert len(program.runs_in(home)) == 1


def test_what_would_make_it_another_run_is_refused_with_the_command_for_that_one(program: Any, home: Path) -> None:
    refused = program.run(home, "train", *program.SMALL, *NAMED, "trainer.max_epochs=1", "optimizer.weight_decay=0.5")
    assert refused.code == 2
    run_dir = program.only_run(home)
    assert f"optimizer.weight_decay=0.5 would make {run_dir.name} another run" in refused.err
    assert f"init_from={run_dir.name}" in refused.err


def test_a_new_run_sets_out_from_the_weights_of_another(program: Any, home: Path) -> None:
    source = program.only_run(home)
    settings = ("name=next", f"init_from={source.name}", "trainer.max_steps=1", "optimizer.learning_rate=1e-12")
    ended = program.run(home, "train", *program.SMALL, *settings, "optimizer.weight_decay=0", "callbacks=none")
    assert ended.code == 0, ended.err
    (new,) = (folder for folder in program.runs_in(home) if folder.name != source.name)
    theirs = checkpoints.evaluation_weights(checkpoints.load_checkpoint(source / "checkpoints/best.ckpt"))
    ours = checkpoints.load_checkpoint(new / "checkpoints/last.ckpt")["state_dict"]
    learned = [name for name in ours if "num_batches" not in name and "running" not in name]
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-6) for name in learned)
    assert "-next-" in new.name


def test_weights_of_another_model_are_refused_by_name(program: Any, home: Path) -> None:
    source = next(folder for folder in program.runs_in(home) if "-long-" in folder.name)
    ended = program.run(home, "train", "model=mlp", "tracking=none", f"init_from={source.name}")
    assert ended.code == 2 and "Traceback" not in ended.err
    assert "these weights are of another model" in ended.err
