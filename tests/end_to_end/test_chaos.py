"""The tool that kills trainings, used on ours."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.commands import chaos
from pipeline.runs.run_directory import Run
from pipeline.tracking.journal import metric_history


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, 2])
def test_a_run_that_was_killed_again_and_again_is_the_run_that_was_not(
    program: Any, tmp_path: Path, devices: int
) -> None:
    several = ("trainer.accelerator=cpu", f"trainer.devices={devices}", "trainer.max_epochs=8")
    ended = program.run(tmp_path / "home", "chaos", "kills=4", *several, "data.train_fraction=0.5")
    assert ended.code == 0, ended.out + ended.err
    assert "4 kills in" in ended.out and ended.out.rstrip().endswith("zero differences")
    assert "weights, journal and MLflow are the same" in ended.out


def test_it_tells_apart_what_differs(program: Any, finished: Any, tmp_path: Path) -> None:
    one, other = (Run(finished.copied_to(tmp_path / name)) for name in ("one", "other"))
    assert chaos.run_differences(one, other) == []
    journal = other.journal_path
    name, points = next((name, points) for name, points in metric_history(journal).items() if name == "val/loss")
    journal.write_text(journal.read_text().replace(repr(points[0][1]), "0.125"))
    assert chaos.run_differences(one, other) == [f"the journal differs in {name}"]
    checkpoint = chaos.checkpoint_of(one)
    digest = chaos.hash_of(checkpoint)
    checkpoint["state_dict"]["network.body.head.bias"] += 1e-6
    assert digest != chaos.hash_of(checkpoint)
    (patience,) = (name for name in chaos.counts_of(checkpoint) if name.endswith(".wait_count"))
    state = next(state for state in checkpoint["callbacks"].values() if "wait_count" in state)
    state["wait_count"] += 1
    changed = chaos.counts_of(checkpoint).items() ^ chaos.counts_of(chaos.checkpoint_of(one)).items()
    assert {name for name, _ in changed} == {patience}


def test_a_number_of_kills_that_is_none_is_refused(program: Any, tmp_path: Path) -> None:
    ended = program.run(tmp_path / "home", "chaos", "kills=many")
    assert ended.code == 2 and "kills=50" in ended.err
