"""A resume that cannot be carried out takes nothing away from what a finished run had."""

import hashlib
import json
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest

# Of the directory only what tells of the attempt itself may differ.
OF_THE_ATTEMPT = (".lock", "job.json")
BREAKS = """
import os
import signal

import pytorch_lightning as pl

class Breaks(pl.Callback):
    def __init__(self, how: str) -> None:
        self.how = how

    def setup(self, trainer, *_, **__):
        self.at(trainer, "setup")

    def on_train_start(self, trainer, *_):
        self.at(trainer, "start")

    def on_train_batch_end(self, trainer, *_):
        self.at(trainer, "batch")

    def on_train_epoch_start(self, trainer, *_):
        self.at(trainer, f"epoch {trainer.current_epoch}")

    def at(self, trainer, moment):
        what, _, when = os.environ.get("BREAK", "").partition(" ")
        if when != moment or trainer.state.fn != "fit":
            return
        if what == "raise":
            raise RuntimeError("broken on purpose")
        os.kill(os.getpid(), getattr(signal, what))
"""
OWN = ("model=logistic_regression", "model._target_=own.Own")
MINE = ("allow_packages=[mine]", "+callbacks.breaks={_target_: mine.Breaks, how: x}")


def contents(folder: Path) -> dict[str, str]:
    """The digest of every file and the target of every link, but those of the attempt."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            found[name] = os.readlink(path)
        elif path.is_file() and name not in OF_THE_ATTEMPT and path.suffix != ".log":
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


@pytest.fixture(scope="module")
def mine(program: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of two epochs with a callback that breaks when it is told to."""
    home: Path = tmp_path_factory.mktemp("mine") / "home"
    home.mkdir()
    (home / "mine.py").write_text(BREAKS)
    ended = program.run(home, "train", *program.SMALL, "trainer.max_epochs=2", *MINE)
    assert ended.code == 0, ended.err
    return home


@pytest.mark.parametrize(
    "override, said",
    [
        ("trainer.max_epochs=1", "has been trained for 3 epochs (30 steps) already: expected trainer.max_epochs=3"),
        ("trainer.max_steps=7", "has been trained for 3 epochs (30 steps) already: expected trainer.max_steps=30"),
        ("trainer.devices=7", "cannot be split over 7 processes"),
        ("launch.hang_seconds=many", "launch.hang_seconds"),
    ],
)
def test_it_is_refused_before_anything_is_written(
    program: Any, finished: Any, tmp_path: Path, override: str, said: str
) -> None:
    folder = finished.copied_to(tmp_path / "home")
    before = contents(folder)
    longer = () if "max_" in override else ("trainer.max_epochs=9", "trainer.accelerator=cpu")
    ended = program.run(tmp_path / "home", "resume", override, *longer)
    assert ended.code == 2 and "Traceback" not in ended.err
    assert said in ended.err
    assert contents(folder) == before


@pytest.mark.parametrize("override", ["trainer.max_epochs=3", "trainer.max_steps=30", "checkpoint.keep=1"])
def test_a_run_that_is_as_long_already_is_finished_and_nothing_else(
    program: Any, finished: Any, tmp_path: Path, override: str
) -> None:
    folder = finished.copied_to(tmp_path / "home")
    before = contents(folder)
    ended = program.run(tmp_path / "home", "resume", override)
    assert ended.code == 0, ended.err
    assert f"{folder.name} is finished after 3 epochs (30 steps): nothing is trained" in ended.out
    assert contents(folder) == before


@pytest.mark.parametrize(
    "broken",
    ["raise setup", "SIGKILL setup", "SIGTERM setup", "SIGINT setup", "raise start", "SIGKILL start", "SIGTERM start"],
)
def test_what_breaks_before_training_goes_on_leaves_the_run_as_it_was(program: Any, mine: Path, broken: str) -> None:
    folder = program.only_run(mine)
    before = contents(folder)
    ended = program.run(mine, "resume", "trainer.max_epochs=4", BREAK=broken)
    assert ended.code != 0
    assert contents(folder) == before
    assert program.run(mine, "resume", "trainer.max_epochs=2").code == 0, "it is still finished"


@pytest.mark.parametrize(
    "schedule", ["OneCycleLR(optimizer, max_lr=0.1, total_steps", "CosineAnnealingLR(optimizer, T_max"]
)
def test_a_schedule_of_a_module_of_ones_own_that_has_ended_is_not_lengthened(
    program: Any, tmp_path: Path, schedule: str
) -> None:
    (tmp_path / "own.py").write_text(
        """
import pytorch_lightning as pl
import torch

class Own(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 3)

    def step(self, batch, name):
        inputs, targets = batch
        loss = torch.nn.functional.cross_entropy(self.layer(inputs.float()), targets)
        self.log(name, loss)
        return loss

    def training_step(self, batch, number):
        return self.step(batch, "train/loss")

    def validation_step(self, batch, number):
        self.step(batch, "val/loss")

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.SCHEDULE=steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
""".replace("SCHEDULE", schedule)
    )
    settings = ("data=iris", "allow_packages=[own]", *OWN, "tracking=none", "callbacks=none")
    ended = program.run(tmp_path, "train", *settings, "trainer.max_epochs=2")
    assert ended.code == 0, ended.err + ended.out
    folder = program.only_run(tmp_path)
    before = contents(folder)
    refused = program.run(tmp_path, "resume", "trainer.max_epochs=4")
    assert refused.code == 2 and "Traceback" not in refused.err
    assert f"{schedule.partition('(')[0]} of {folder.name} was made for" in refused.err and "init_from" in refused.err
    assert contents(folder) == before


@pytest.mark.parametrize("broken", ["SIGTERM batch", "SIGKILL batch", "raise batch"])
def test_what_breaks_later_leaves_the_verdict_and_can_be_gone_on_with(
    program: Any, mine: Path, tmp_path: Path, broken: str
) -> None:
    home = tmp_path / "home"
    folder = home / "runs" / program.only_run(mine).name
    shutil.copytree(mine, home, symlinks=True)
    before = contents(folder)
    ended = program.run(home, "resume", "trainer.max_epochs=4", BREAK=broken)
    assert ended.code != 0
    after = contents(folder)
    assert {name: after.get(name) for name in ("result.json", "predictions.npz")} == {
        name: before[name] for name in ("result.json", "predictions.npz")
    }
    listed = program.run(home, "runs").out
    assert ("KILLED" if "SIGTERM" in broken else "FAILED" if "raise" in broken else "INTERRUPTED") in listed
    went_on = program.run(home, "resume")
    assert went_on.code == 0, went_on.err
    assert "epoch 4/4" in went_on.out
    assert program.result(folder)["status"] == "FINISHED"
    assert contents(folder)["result.json"] != before["result.json"]


def test_a_killed_lengthening_keeps_the_weights_that_the_verdict_tells_of(
    program: Any, mine: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    shutil.copytree(mine, home, symlinks=True)
    folder = program.only_run(home)
    named = folder / program.result(folder)["best_checkpoint"]
    killed = program.run(home, "resume", "trainer.max_epochs=8", "checkpoint.keep=1", BREAK="SIGKILL epoch 6")
    assert killed.code != 0
    best = folder / "checkpoints/best.ckpt"
    assert best.resolve() != named.resolve(), "a better one came"
    assert folder / program.result(folder)["best_checkpoint"] == named and named.exists()
    assert named.with_name(f"{named.name}.sha256").exists()
    judged = program.run(home, "evaluate")
    assert judged.code == 0 and named.name in judged.out, judged.out + judged.err
    rows = [line.split("│") for line in judged.out.splitlines() if "test/" in line]
    assert rows and all(now.strip() == trained.strip() for _, now, trained in rows), judged.out
    went_on = program.run(home, "resume")
    assert went_on.code == 0, went_on.err
    after = folder / program.result(folder)["best_checkpoint"]
    assert after.exists() and after == best.resolve() and not named.exists()


def test_a_verdict_whose_weights_are_gone_is_told(program: Any, mine: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    shutil.copytree(mine, home, symlinks=True)
    folder = program.only_run(home)
    assert program.run(home, "resume", "trainer.max_epochs=8", BREAK="SIGKILL epoch 6").code != 0
    named = folder / program.result(folder)["best_checkpoint"]
    named.unlink()  # as by an older version
    judged = program.run(home, "evaluate")
    assert judged.code == 0, judged.err
    assert f"result.json names {named.name}, which is gone" in judged.err + judged.out
    registered = program.run(home, "register", "name=m")
    assert registered.code == 2 and f"pipeline resume run={folder.name}" in registered.err


def test_a_preempted_lengthening_is_gone_on_with_by_the_same_command(
    program: Any, tmp_path: Path, watched: Any
) -> None:
    command = ("train", *program.SMALL, "name=again", "auto_resume=true", "callbacks=none")
    home = tmp_path / "home"
    assert program.run(home, *command, "trainer.max_epochs=1").code == 0
    longer = watched(program.start(home, *command, "trainer.max_epochs=1000"))
    longer.reaches(15)
    longer.send(signal.SIGTERM)
    assert longer.end().code == 75
    folder = program.only_run(home)
    steps = json.loads((folder / "result.json").read_text())
    assert steps["status"] == "FINISHED", "what it came to before"
    again = watched(program.start(home, *command, "trainer.max_epochs=1000"))
    deadline = time.monotonic() + 180
    while "goes on at" not in again.out.read_text():
        assert again.popen.poll() is None and time.monotonic() < deadline, again.err.read_text()
        time.sleep(0.1)
    again.send(signal.SIGTERM)
    assert again.end().code in (75, 143)
