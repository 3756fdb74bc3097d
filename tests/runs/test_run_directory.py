"""The run directory: made whole, found by any of its names."""

import os
import re
from pathlib import Path

import pytest

from pipeline.errors import RunError
from pipeline.runs import run_directory as runs
from pipeline.runs.find_run import find_run
from pipeline.runs.run_directory import Run
from pipeline.tracking import sync_state

CONFIG = """seed: 0
name: cnn
data: {}
model: {}
trainer: {}
checkpoint: {monitor: val/loss, mode: min}
tracking: {uri: null, artifacts: null}
launch: {_target_: pipeline.launch.local.Local}
"""
NAMES = ("20260101-120000-cnn-mnist5k-1a2b", "20260102-120000-cnn-mnist5k-3c4d", "20260103-120000-mlp-mnist5k-5e6f")


def make(name: str = "cnn", runs_dir: str = "runs") -> Run:
    run = runs.create_run_directory(name=name, runs_dir=runs_dir)
    runs.fill_run_directory(run, config_yaml=CONFIG, overrides=["seed=0", "name='a b'"], environment={"a": 1})
    return run


@pytest.fixture
def three(empty_folder: Path) -> Path:
    for name in NAMES:
        folder = empty_folder / "runs" / name
        folder.mkdir(parents=True)
        (folder / "config.yaml").write_text("seed: 0\n")
    Run(empty_folder / "runs" / NAMES[1]).update_latest_link()
    return empty_folder


class TestMaking:
    def test_a_new_run_directory_holds_its_configuration_before_training(self, empty_folder: Path) -> None:
        run = make()
        assert re.fullmatch(r"\d{8}-\d{6}-cnn-[0-9a-f]{4}", run.id)
        assert run.folder.parent == empty_folder / "runs"
        assert run.config().seed == 0
        assert (run.folder / "overrides.txt").read_text() == "seed=0\nname='a b'\n"
        assert (run.folder / "environment.json").read_text() == '{\n  "a": 1\n}\n'
        assert not run.has_started and run.result() is None

    def test_runs_made_at_the_same_moment_get_a_directory_each(self, empty_folder: Path) -> None:
        assert len({make().folder for _ in range(20)}) == 20

    def test_making_a_run_does_not_move_latest(self, three: Path) -> None:
        make()
        assert os.readlink(three / "runs/latest") == NAMES[1]

    def test_a_run_directory_that_cannot_be_written_leaves_nothing(self, empty_folder: Path) -> None:
        (empty_folder / "file").write_text("")
        with pytest.raises(RunError, match=r"cannot write a run directory in .*/file/runs: Not a directory; choose"):
            make(runs_dir="file/runs")
        assert [path.name for path in empty_folder.iterdir()] == ["file"]

    def test_a_run_that_never_started_can_be_discarded(self, empty_folder: Path) -> None:
        run = make()
        run.discard()
        assert list((empty_folder / "runs").iterdir()) == []

    def test_latest_moves_from_one_run_to_the_next(self, three: Path) -> None:
        for name in NAMES:
            Run(three / "runs" / name).update_latest_link()
            assert (three / "runs/latest").resolve().name == name
        assert {path.name for path in (three / "runs").iterdir()} == {*NAMES, "latest"}


class TestFinding:
    @pytest.mark.parametrize(
        "reference, found",
        [
            ("latest", NAMES[1]),
            (NAMES[0], NAMES[0]),
            ("5e6f", NAMES[2]),
            ("mlp", NAMES[2]),
            ("20260102", NAMES[1]),
            (f"runs/{NAMES[0]}", NAMES[0]),
            (f"runs/{NAMES[0]}/", NAMES[0]),
            ("runs/latest", NAMES[1]),
        ],
    )
    def test_a_run_is_found_by_latest_name_ending_part_or_path(self, three: Path, reference: str, found: str) -> None:
        assert find_run(reference, "runs").folder == three / "runs" / found

    def test_a_run_is_found_by_a_path_anywhere(self, three: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir("/")
        assert find_run(str(three / "runs" / NAMES[0]), "runs").id == NAMES[0]
        assert find_run("5e6f", str(three / "runs")).id == NAMES[2]

    def test_a_part_of_several_run_names_is_ambiguous(self, three: Path) -> None:
        with pytest.raises(RunError, match=rf"run=cnn could be any of {NAMES[0]}, {NAMES[1]}: give more of the name"):
            find_run("cnn", "runs")

    @pytest.mark.parametrize("reference", ["20260103-120000-mlp-mnist5k-5e6e", "mpl-mnist5k-5e6f"])
    def test_an_unknown_reference_is_answered_with_the_nearest_names(self, three: Path, reference: str) -> None:
        with pytest.raises(RunError, match=rf"run={reference} is not in .*did you mean {NAMES[2]}.*or run=latest"):
            find_run(reference, "runs")

    @pytest.mark.parametrize("reference", ["../../etc", "*", "[", "", " "])
    def test_a_reference_with_odd_characters_finds_no_run(self, three: Path, reference: str) -> None:
        with pytest.raises(RunError):
            find_run(reference, "runs")

    def test_an_empty_folder_of_runs_is_answered_with_how_to_make_one(self, empty_folder: Path) -> None:
        with pytest.raises(RunError, match=r"there is no run in .* yet; `make train` makes one"):
            find_run("latest", "runs")

    def test_a_link_to_a_run_that_was_deleted_is_no_run(self, three: Path) -> None:
        (three / "runs" / NAMES[1] / "config.yaml").unlink()
        with pytest.raises(RunError, match="run=latest"):
            find_run("latest", "runs")


def test_a_result_is_read_back_as_it_was_written(empty_folder: Path) -> None:
    run = make()
    result = {"status": "FINISHED", "metrics": {"test/accuracy": 0.1 + 0.2}}
    run.write_result(result)
    assert run.result() == result


def test_a_run_is_found_by_its_mlflow_run_id(three: Path) -> None:
    run = Run(three / "runs" / NAMES[0])
    sync_state.save_progress(run.folder, sync_state.SyncProgress(uri="sqlite:///x.db", mlflow_run_id="ab" * 16))
    assert find_run("ab" * 16, "runs").id == run.id


def test_a_new_run_was_made_here_and_a_changed_one_was_not(empty_folder: Path) -> None:
    run = Run(make().folder)
    assert run.is_made_here
    run.config_path.write_text("seed: 1\n")
    assert not run.is_made_here
