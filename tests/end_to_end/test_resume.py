"""Going on: after `kill -9` in the middle of an epoch, past the end, and when it must be refused."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.tracking.journal import metric_history, read_journal
from pipeline.training import checkpoints

MEASURED = "system/"  # seconds and speeds are never the same
# A callback that kills its own processes before optimiser step 14 (of 10 an epoch), once, when step 12 is on the disk.
MORTAL = """
import os
import signal
import time
from pathlib import Path

import pytorch_lightning as pl

class DiesOnce(pl.Callback):
    def on_before_optimizer_step(self, trainer, *_):
        if trainer.global_step == 13 and Path("mortal").exists():
            Path("mortal").unlink()
            while not list(Path("runs").glob("*/checkpoints/step-00000012.ckpt")):
                time.sleep(0.01)
            os.killpg(0, signal.SIGKILL)
"""


def weights(run_dir: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = checkpoints.load_checkpoint(run_dir / "checkpoints/last.ckpt")["state_dict"]
    return found


def curves(run_dir: Path) -> dict[str, list[tuple[int, float]]]:
    recorded = metric_history(run_dir / "journal.jsonl")
    return {name: points for name, points in recorded.items() if not name.startswith(MEASURED)}


@pytest.fixture(scope="module")
def killed(program: Any, finished: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of `finished` once more, ended by SIGKILL to all of the training in the middle of its second epoch."""
    root = tmp_path_factory.mktemp("killed") / "home"
    root.mkdir()
    (root / "mortals.py").write_text(MORTAL)
    (root / "mortal").touch()
    mortal = ("allow_packages=[mortals]", "+callbacks.dies={_target_: mortals.DiesOnce}")
    ended = program.run(root, *finished.arguments, *mortal)
    assert ended.code == 128 + signal.SIGKILL, ended.err
    return root


@pytest.fixture(scope="module")
def resumed(program: Any, killed: Path) -> Any:
    return program.run(killed, "resume")


class TestAfterKill9:
    def test_it_goes_on_in_the_same_directory(self, program: Any, killed: Path, resumed: Any) -> None:
        assert resumed.code == 0, resumed.err
        assert "goes on at  step 12 (step-00000012.ckpt)" in resumed.out
        assert program.result(program.only_run(killed))["status"] == "FINISHED"

    def test_the_weights_are_those_of_the_undisturbed_run_bit_by_bit(
        self, program: Any, killed: Path, resumed: Any, finished: Any
    ) -> None:
        expected, found = weights(finished.folder), weights(program.only_run(killed))
        assert expected.keys() == found.keys()
        assert all(torch.equal(found[name], value) for name, value in expected.items())

    def test_so_are_the_figures_and_the_curves(self, program: Any, killed: Path, resumed: Any, finished: Any) -> None:
        run_dir = program.only_run(killed)
        assert program.result(run_dir)["metrics"] == finished.result["metrics"]
        assert curves(run_dir) == curves(finished.folder)


class TestPastTheEnd:
    @pytest.fixture(scope="class")
    @staticmethod
    def longer(program: Any, finished: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
        """A finished run whose newest checkpoint was damaged since, asked to go on for another epoch."""
        root = tmp_path_factory.mktemp("longer")
        folder = finished.copied_to(root)
        newest = folder / "checkpoints/step-00000030.ckpt"
        newest.write_bytes(newest.read_bytes()[:-100])
        return folder, program.run(root, "resume", "trainer.max_epochs=4")

    def test_a_finished_run_can_be_trained_longer(self, program: Any, longer: Any) -> None:
        folder, ended = longer
        assert ended.code == 0, ended.err
        assert "epoch 4/4  step 40" in ended.out
        assert os.readlink(folder / "checkpoints/last.ckpt") == "step-00000040.ckpt"
        assert program.result(folder)["status"] == "FINISHED"
        assert (folder / "overrides.txt").read_text().endswith("tracking=none\ntrainer.max_epochs=4\n")

    def test_what_changed_becomes_a_tag_with_its_step(self, longer: Any) -> None:
        folder, _ = longer
        tags = [record["tags"] for record, _ in read_journal(folder / "journal.jsonl") if record["kind"] == "tags"]
        changed = {"resumed_from": "step-00000027.ckpt", "changed.trainer.max_epochs": "3 -> 4, from step 27"}
        assert [each for each in tags if "resumed_from" in each] == [changed]

    def test_a_damaged_checkpoint_is_named_and_the_one_before_it_taken(self, longer: Any) -> None:
        _, ended = longer
        assert "step-00000030.ckpt is truncated or altered" in ended.out
        assert "taking the one before it" in ended.out
        assert "goes on at  step 27 (step-00000027.ckpt)" in ended.out


class TestIsRefused:
    def test_for_a_finished_run_that_is_asked_for_nothing(self, program: Any, finished: Any, tmp_path: Path) -> None:
        folder = finished.copied_to(tmp_path / "home")
        ended = program.run(tmp_path / "home", "resume")
        assert ended.code == 2
        assert f"pipeline resume run={folder.name} trainer.max_epochs=6" in ended.err

    @pytest.mark.parametrize("override", ["optimizer.learning_rate=1e-4", "data.batch_size=64", "seed=1", "model=mlp"])
    def test_for_settings_that_would_make_it_another_run(
        self, program: Any, finished: Any, tmp_path: Path, override: str
    ) -> None:
        folder = finished.copied_to(tmp_path / "home")
        before = (folder / "config.yaml").read_text()
        ended = program.run(tmp_path / "home", "resume", "run=latest", override)
        assert ended.code == 2 and "Traceback" not in ended.err
        assert f"{override} would make {folder.name} another run" in ended.err
        assert ended.err.rstrip().endswith(f"{override} init_from={folder.name}")
        assert (folder / "config.yaml").read_text() == before

    def test_for_a_value_of_the_wrong_kind(self, program: Any, finished: Any, tmp_path: Path) -> None:
        folder = finished.copied_to(tmp_path / "home")
        before = (folder / "config.yaml").read_text()
        ended = program.run(tmp_path / "home", "resume", "trainer.max_epochs=many")
        assert ended.code == 2 and "Traceback" not in ended.err
        assert "trainer.max_epochs" in ended.err and "many" in ended.err
        assert (folder / "config.yaml").read_text() == before
        assert program.result(folder) == finished.result
