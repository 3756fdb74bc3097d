"""A run whose files are damaged is judged and gone on with, from whatever of it is proven to be whole."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

TRAIN = ("data=iris", "model=mlp", "model.widths=[4]", "trainer.max_epochs=2", "tracking=none")


def pipeline(folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", *words], cwd=folder, capture_output=True, text=True, timeout=180, check=False
    )
    assert "Traceback" not in done.stdout + done.stderr, done.stderr
    return done


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    assert pipeline(folder, "train", *TRAIN).returncode == 0
    return folder


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """In a copy of the folder that it was trained in."""
    shutil.copytree(trained / "runs", tmp_path / "runs", symlinks=True)
    (folder,) = (tmp_path / "runs").glob("2*")
    return folder


def newest(run: Path) -> Path:
    return max((run / "checkpoints").glob("step-*.ckpt"))


def test_a_resume_goes_on_from_the_newest_checkpoint_whatever_became_of_the_rest(run: Path) -> None:
    (run / "result.json").write_bytes(bytes(300))
    (run / "environment.json").write_text("{")
    (run / "assembled.json").write_text("[]")
    (run / "overrides.txt").write_bytes(b"\0")
    (run / "sync.json").write_text('{"offset": "x"}')
    (run / "predictions.npz").write_bytes(b"PK")
    newest(run).with_name(f"{newest(run).name}.sha256").write_text("")
    with (run / "journal.jsonl").open("ab") as file:
        file.write(b'{"kind":"metrics","time":1,"step":"x","values":7}\n' + bytes(500) + b"\n")
    done = pipeline(run.parents[1], "resume", "trainer.max_epochs=3")
    assert done.returncode == 0, done.stderr
    assert "taking the one before" not in done.stdout
    result: dict[str, Any] = json.loads((run / "result.json").read_text())
    assert result["status"] == "FINISHED" and "test/accuracy" in result["metrics"]
    (resume,) = [json.loads(line) for line in (run / "journal.jsonl").read_bytes().splitlines() if b'"resume"' in line]
    assert resume["step"] == 4


def test_a_resume_takes_the_checkpoint_before_one_that_is_damaged(run: Path) -> None:
    newest(run).write_bytes(newest(run).read_bytes()[:-1000])
    done = pipeline(run.parents[1], "resume", "trainer.max_epochs=3")
    assert done.returncode == 0, done.stderr
    assert "step-00000004.ckpt is truncated or altered" in done.stdout
    assert b'"kind":"resume"' in (run / "journal.jsonl").read_bytes()
    assert b'"step":2}' in (run / "journal.jsonl").read_bytes()


def test_an_evaluation_mends_what_a_report_is_made_of(run: Path) -> None:
    (run / "result.json").write_text("")
    (run / "assembled.json").write_text("{}")
    (run / "predictions.npz").write_bytes(b"PK\3\4")
    assert pipeline(run.parents[1], "report").returncode == 2
    judged = pipeline(run.parents[1], "evaluate")
    assert judged.returncode == 0 and "result.json is damaged (it is empty)" in judged.stderr
    assert judged.stdout.count("test/accuracy") == 1
    assert pipeline(run.parents[1], "report").returncode == 0
    assert "test samples correct" in (run / "report.html").read_text()


@pytest.mark.parametrize("verb", ["evaluate", "resume", "diagnose", "init_from"])
def test_a_checkpoint_that_holds_a_pickle_is_refused_in_a_sentence(run: Path, verb: str) -> None:
    import torch

    for path in (run / "checkpoints").glob("step-*.ckpt"):
        torch.save({"state_dict": {}, "trap": Trap()}, path)
        path.with_name(f"{path.name}.sha256").unlink()
    words = {"resume": ("resume", "trainer.max_epochs=3"), "init_from": ("train", *TRAIN, f"init_from={run.name}")}
    done = pipeline(run.parents[1], *words.get(verb, (verb,)))
    assert done.returncode == 2, done.stderr
    assert "it holds more than numbers, text and tensors" in done.stderr
    assert "weights_only" not in done.stdout + done.stderr and len(done.stderr) < 1000
    assert not (run.parents[1] / "code-ran").exists()


class Trap:
    def __reduce__(self) -> Any:
        return os.mkdir, ("code-ran",)


def test_a_best_checkpoint_elsewhere_is_not_judged_as_if_it_were_of_this_run(run: Path, tmp_path: Path) -> None:
    private = tmp_path / "private.ckpt"
    shutil.copy(newest(run), private)
    (run / "result.json").unlink()  # which names the checkpoint that was judged, whatever the link leads to
    (run / "checkpoints" / "best.ckpt").unlink()
    (run / "checkpoints" / "best.ckpt").symlink_to(private)
    done = pipeline(tmp_path, "evaluate")
    assert done.returncode == 2 and f"leads out of the run directory, to {private}" in done.stderr


def test_a_log_that_is_a_link_to_elsewhere_is_not_written(run: Path, tmp_path: Path) -> None:
    (run / "evaluate.log").symlink_to(tmp_path / "profile")
    (tmp_path / "profile").write_text("mine\n")
    done = pipeline(tmp_path, "evaluate")
    assert done.returncode == 2 and "evaluate.log cannot be written" in done.stderr
    assert (tmp_path / "profile").read_text() == "mine\n"


def test_the_log_of_another_is_shown_without_what_a_terminal_obeys(run: Path, tmp_path: Path) -> None:
    with (run / "run.log").open("ab") as file:
        file.write(b"\x1b]52;c;ZXZpbA==\x07\x1b[2J\x1b[31mred\n")
    done = pipeline(tmp_path, "logs")
    assert done.returncode == 0 and "red" in done.stdout
    assert not {"\x1b", "\x07"} & set(done.stdout)
