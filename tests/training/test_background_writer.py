import subprocess
import sys
import threading
from collections import OrderedDict

import pytest
import torch

from pipeline.training import checkpoints
from pipeline.training.checkpoints import BackgroundWriter, copy_to_cpu


def nothing():
    return None


class Gate:
    """Holds the writer back where the test wants it."""

    def __init__(self, monkeypatch):
        self.open = threading.Event()
        whole = checkpoints.save_checkpoint

        def save(checkpoint, path):
            assert self.open.wait(30)
            whole(checkpoint, path)

        monkeypatch.setattr(checkpoints, "save_checkpoint", save)


def test_the_background_writer_writes_the_weights_of_the_moment_of_the_call(tmp_path, monkeypatch):
    gate, writer = Gate(monkeypatch), BackgroundWriter()
    weights = torch.zeros(1000)
    writer.write({"w": weights}, tmp_path / "step-00000001.ckpt", then=nothing)
    weights += 1  # training goes on
    assert not (tmp_path / "step-00000001.ckpt").exists()
    gate.open.set()
    writer.wait()
    assert torch.equal(checkpoints.load_checkpoint(tmp_path / "step-00000001.ckpt")["w"], torch.zeros(1000))


def test_links_to_a_checkpoint_are_set_when_its_file_is_complete(tmp_path):
    path, seen = tmp_path / "step-00000001.ckpt", []
    writer = BackgroundWriter()
    writer.write({"w": torch.zeros(3)}, path, then=lambda: seen.append(checkpoints.find_damage(path)))
    writer.wait()
    assert seen == [None]


def test_checkpoints_are_written_in_the_order_of_the_calls(tmp_path):
    writer, order = BackgroundWriter(), []
    for step in range(5):
        path = tmp_path / checkpoints.CHECKPOINT_NAME.format(step)
        writer.write({"w": torch.full((100_000,), step)}, path, then=lambda step=step: order.append(step))
    writer.wait()
    assert order == [0, 1, 2, 3, 4]
    assert len(checkpoints.list_checkpoints(tmp_path)) == 5


def test_an_error_of_the_background_writer_is_raised_by_the_next_call_and_only_there(tmp_path):
    writer = BackgroundWriter()
    (tmp_path / "file").write_text("in the way of a folder")
    writer.write({}, tmp_path / "file" / "step-00000001.ckpt", then=nothing)
    with pytest.raises(OSError, match="file"):
        writer.write({}, tmp_path / "step-00000002.ckpt", then=nothing)
    writer.write({}, tmp_path / "step-00000003.ckpt", then=nothing)
    writer.wait()
    assert [path.name for path in checkpoints.list_checkpoints(tmp_path)] == ["step-00000003.ckpt"]


def test_a_copy_of_a_checkpoint_keeps_types_values_and_shared_memory():
    weights = torch.arange(6.0).reshape(2, 3)
    tied = OrderedDict(a=weights, b=weights.detach(), part=weights[1], count=3)
    copy = copy_to_cpu({"state": tied, "list": [weights.T, (1, "x", None)]}, {}, {})
    weights.zero_()
    assert type(copy["state"]) is OrderedDict and copy["state"]["count"] == 3
    assert copy["state"]["a"].data_ptr() == copy["state"]["b"].data_ptr()
    assert torch.equal(copy["state"]["a"], torch.arange(6.0).reshape(2, 3))
    assert torch.equal(copy["state"]["part"], torch.tensor([3.0, 4.0, 5.0]))
    assert torch.equal(copy["list"][0], torch.arange(6.0).reshape(2, 3).T)
    assert copy["list"][1] == (1, "x", None)


def test_the_memory_of_a_copy_is_used_again_for_the_next_one(tmp_path, monkeypatch):
    kept = []
    monkeypatch.setattr(
        checkpoints, "save_checkpoint", lambda checkpoint, path: kept.append(checkpoint["w"].data_ptr())
    )
    writer = BackgroundWriter()
    for step in range(3):
        weights = {"w": torch.full((100_000,), step), "other": torch.zeros(step + 1)}
        writer.write(weights, tmp_path / checkpoints.CHECKPOINT_NAME.format(step), then=nothing)
    writer.wait()
    assert len(set(kept)) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="knows a priority of a single thread")
def test_a_training_started_with_nice_gets_no_higher_priority(tmp_path):
    """Only root may do that; for others the writer would fail."""
    program = """
import os, sys, threading
from pathlib import Path
import torch
from pipeline.training.checkpoints import BackgroundWriter
os.nice(15)
writer = BackgroundWriter()
told = lambda: print(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
writer.write({"w": torch.zeros(1)}, Path(sys.argv[1]), then=told)
writer.wait()
"""
    path = tmp_path / checkpoints.CHECKPOINT_NAME.format(1)
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)
    assert int(done.stdout) >= 15 and path.exists()
