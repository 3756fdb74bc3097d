import logging
import math
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.tracking.journal import DIVERGED_TAG, Journal, is_open, metric_history, read_journal


def kinds(path: Path) -> list[str]:
    return [record["kind"] for record, _ in read_journal(path)]


def python(code: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_a_journal_without_records_is_empty_and_leaves_no_file(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    Journal(path)
    assert list(read_journal(path)) == []
    assert not path.exists()


def test_logged_records_are_on_disk_when_the_process_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    code = (
        "import os, signal, sys; from pathlib import Path; from pipeline.tracking.journal import Journal\n"
        "journal = Journal(Path(sys.argv[1]))\n"
        "for step in range(100): journal.metrics({'loss': step / 7}, step=step, epoch=0)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert python(code, path).wait() == -signal.SIGKILL
    assert metric_history(path) == {"loss": [(step, step / 7) for step in range(100)]}


def test_nan_and_infinity_are_read_as_they_were_written(journal: Journal) -> None:
    journal.metrics({"a": math.nan, "b": math.inf, "c": -math.inf, "d": 0.1}, step=0)
    ((record, _),) = read_journal(journal.path)
    assert math.isnan(record["values"].pop("a"))
    assert record["values"] == {"b": math.inf, "c": -math.inf, "d": 0.1}


def test_a_torn_last_line_is_skipped_and_the_next_writer_starts_a_new_line(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    first = Journal(path)
    first.metrics({"loss": 1.0}, step=0)
    first.metrics({"loss": 2.0}, step=1)
    first.close()
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    assert [end for _, end in read_journal(path)] == [whole.index(b"\n") + 1]

    second = Journal(path)
    second.metrics({"loss": 3.0}, step=2)
    second.close()
    assert metric_history(path) == {"loss": [(0, 1.0), (2, 3.0)]}


@pytest.mark.parametrize("damage", [b"\x00" * 40, b"12", b'{"step": 1}', b'{"kind": "metr', b"\xff\xfe"])
def test_a_broken_line_is_skipped(journal: Journal, damage: bytes) -> None:
    journal.tags({"a": "1"})
    with journal.path.open("ab") as file:
        file.write(damage + b"\n")
    journal.tags({"b": "2"})
    assert [record["tags"] for record, _ in read_journal(journal.path)] == [{"a": "1"}, {"b": "2"}]


def test_reading_continues_from_an_offset(journal: Journal) -> None:
    journal.note("one")
    ((_, offset),) = read_journal(journal.path)
    journal.note("two")
    assert [record["text"] for record, _ in read_journal(journal.path, offset)] == ["two"]


def test_a_full_disk_costs_one_warning_and_not_the_run(caplog: pytest.LogCaptureFixture) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("only Linux has a device that is always full")
    journal = Journal(Path("/dev/full"))
    with caplog.at_level(logging.WARNING):
        journal.metrics({"loss": 1.0}, step=0)
        journal.metrics({"loss": 1.0}, step=1)
    journal.close()
    assert [message for message in caplog.messages if "No space left" in message] == caplog.messages
    assert len(caplog.messages) == 1


def test_a_line_written_in_part_does_not_damage_the_next(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    code = (
        "import resource, signal, sys; from pathlib import Path; from pipeline.tracking.journal import Journal\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "journal = Journal(Path(sys.argv[1]))\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (250, resource.RLIM_INFINITY))\n"
        "for step in range(5): journal.metrics({'loss': 0.5}, step=step)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))\n"
        "for step in range(5, 8): journal.metrics({'loss': 0.5}, step=step)\n"
    )
    assert python(code, path).wait() == 0
    steps = [step for step, _ in metric_history(path)["loss"]]
    assert steps[0] == 0 and steps[-3:] == [5, 6, 7] and 3 not in steps


def test_a_repeated_step_keeps_its_first_time_so_that_mlflow_recognises_it(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    first = Journal(path)
    for step in range(10):
        first.metrics({"loss": step / 3, "accuracy": math.nan}, step=step, epoch=0)
    first.close()
    times = {record["step"]: record["time"] for record, _ in read_journal(path)}
    time.sleep(0.01)

    second = Journal(path)
    second.resume(step=6)
    for step in range(6, 12):
        second.metrics({"loss": step / 3, "accuracy": math.nan}, step=step, epoch=0)
    second.close()
    repeated = [record for record, _ in read_journal(path) if record["kind"] == "metrics"][10:]
    assert [record["time"] for record in repeated[:4]] == [times[step] for step in range(6, 10)]
    assert all(record["time"] > times[9] for record in repeated[4:])
    assert DIVERGED_TAG not in str(list(read_journal(path)))


def test_the_last_values_before_a_checkpoint_keep_their_time_when_repeated(tmp_path: Path) -> None:
    first = Journal(tmp_path / "journal.jsonl")
    first.metrics({"loss": 0.5}, step=5)
    first.close()
    time.sleep(0.01)
    second = Journal(tmp_path / "journal.jsonl")
    second.resume(step=6)  # of a checkpoint after six steps, whose epoch's last values stand at step 5
    second.metrics({"loss": 0.5}, step=5)
    second.close()
    before, after = (record["time"] for record, _ in read_journal(second.path) if record["kind"] == "metrics")
    assert before == after


def test_a_repeated_step_with_another_value_is_a_new_point_and_sets_a_tag(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    first = Journal(path)
    for step in range(5):
        first.metrics({"loss": 1.0, "accuracy": 0.5, "system/load": 1.0}, step=step)
    first.close()
    time.sleep(0.01)

    second = Journal(path)
    second.resume(step=2)
    for step in range(2, 5):
        second.metrics({"loss": 1.0 if step == 2 else 2.0, "accuracy": 0.5, "system/load": 9.0}, step=step)
    second.close()
    records = [record for record, _ in read_journal(path)]
    assert [record["tags"] for record in records if record["kind"] == "tags"] == [
        {DIVERGED_TAG: "from step 3 on (loss)"}
    ]
    last = {name: record["time"] for record in records if record.get("step") == 4 for name in record["values"]}
    assert last["accuracy"] == next(record["time"] for record in records if record.get("step") == 4)
    assert last["loss"] > last["accuracy"]


def test_the_history_omits_what_a_resume_discarded(journal: Journal) -> None:
    for step in range(6):
        journal.metrics({"loss": float(step), "late": 1.0} if step > 3 else {"loss": float(step)}, step=step)
    journal.resume(step=3)
    journal.metrics({"loss": 40.0}, step=4)
    assert metric_history(journal.path) == {"loss": [(0, 0.0), (1, 1.0), (2, 2.0), (3, 3.0), (4, 40.0)]}


def test_another_process_sees_whether_a_run_is_alive(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    assert not is_open(path)
    code = (
        "import sys, time; from pathlib import Path; from pipeline.tracking.journal import Journal\n"
        "Journal(Path(sys.argv[1])).note('here'); print('ready', flush=True); time.sleep(60)"
    )
    writer = python(code, path)
    assert writer.stdout is not None and writer.stdout.readline() == "ready\n"
    assert is_open(path)
    writer.kill()
    writer.wait()
    assert not is_open(path)


def test_numbers_of_any_type_are_read_equal_to_the_last_bit(journal: Journal) -> None:
    values = {"thin": 0.1 + 0.2, "float32": np.float32(0.1), "tensor": torch.tensor(1 / 3), "whole": 3, "true": True}
    tiny_and_huge = {"tiny": 5e-324, "huge": 1.7976931348623157e308, "minus": -0.0, '"größe" %s': 1e16}
    journal.metrics(values | tiny_and_huge, step=1)
    ((record, _),) = read_journal(journal.path)
    expected = {name: float(value) for name, value in (values | tiny_and_huge).items()}
    assert {name: repr(value) for name, value in record["values"].items()} == {
        name: repr(value) for name, value in expected.items()
    }
