"""What is found wrong once the data is there: exit 2 (or 1 when training broke down), and no half-made run."""

import gzip
import re
import struct
from pathlib import Path
from typing import Any

import pytest

# A user's own source; what is wrong with it can be chosen.
SOURCE = """
import torch
from pipeline.data.dataset import Split, Splits

class Noise:
    def __init__(self, *, labels: int = 4, empty: str = "") -> None:
        self.labels, self.empty = labels, empty

    def load(self, root):
        generator = torch.Generator().manual_seed(0)
        def part(name, size):
            size = 0 if name == self.empty else size
            inputs = torch.randint(0, 256, (size, 1, 8, 8), dtype=torch.uint8, generator=generator)
            return Split(inputs, torch.arange(size) % self.labels)
        parts = {name: part(name, size) for name, size in (("train", 256), ("validation", 64), ("test", 64))}
        return Splits(name="noise", kind="image", task="multiclass", class_names=tuple("abcd"), **parts)
"""
OWN = ("allow_packages=[mine]", "data.source._target_=mine.Noise")
FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder with a user's own source, and one with other files than MNIST's under their names."""
    (tmp_path / "mine.py").write_text(SOURCE)
    (tmp_path / "swapped").mkdir()
    (tmp_path / "no files").mkdir()
    for name in FILES:
        no_images = struct.pack(">4BII", 0, 0, 8, 1, 0, 0)
        (tmp_path / "swapped" / f"{name}.gz").write_bytes(gzip.compress(no_images))
    return tmp_path


# What is typed, and words that the message must have. The quick ones of these are in tests/lifecycle, too.
REFUSED = {
    "other files under those names": (
        ["data=mnist", "data.root=swapped"],
        ["swapped/train-images-idx3-ubyte.gz holds 12 bytes", "expected 47,040,016", "fresh copy", "data=mnist5k"],
    ),
    "a folder without the files": (
        ["data=mnist", "data.root=no files"],
        ["no files lacks train-images-idx3-ubyte", "data=mnist5k"],
    ),
    "a folder that is not there": (["data=fashion_mnist", "data.root=nowhere"], ["nowhere", "data=mnist5k"]),
    "no network": (
        ["data=mnist"],
        ["could not be downloaded", "cannot be reached", "data.root=/path/with/the/files", "data=mnist5k"],
    ),
    "a label out of range": (
        [*OWN, "+data.source.labels=5"],
        ["noise's train split", "label 4", "expected 0 to 3", "class_names"],
    ),
    "an empty part": ([*OWN, "+data.source.empty=test"], ["noise's test split is empty", "at least one sample"]),
    "a batch of more than there is": (
        [*OWN, "data.batch_size=257"],
        ["data.batch_size=257", "256 training samples", "use at most 256"],
    ),
}
IN_THE_DEFAULT_SUITE = ("other files under those names",)


@pytest.mark.parametrize(
    "case", [case if case in IN_THE_DEFAULT_SUITE else pytest.param(case, marks=pytest.mark.slow) for case in REFUSED]
)
def test_it_is_refused_in_words_and_leaves_no_run(program: Any, home: Path, case: str) -> None:
    typed, expected = REFUSED[case]
    dead_end = "http://127.0.0.1:9"  # whatever would be downloaded
    ended = program.run(home, "train", *typed, https_proxy=dead_end, http_proxy=dead_end, XDG_CACHE_HOME=f"{home}/c")
    assert ended.code == 2
    assert "Traceback" not in ended.err and ended.out == ""
    assert [words for words in expected if words not in ended.err] == []
    assert list(home.glob("runs/*")) == []


def test_a_loss_that_is_no_number_ends_the_run_with_its_step_and_gradient(program: Any, home: Path) -> None:
    huge = ("model=softmax_regression", "optimizer=sgd", "optimizer.learning_rate=1e30", "data.batch_size=32")
    ended = program.run(home, "train", *OWN, *huge, "tracking=none")
    assert ended.code == 1
    assert re.match(r"failed: the loss is (nan|inf) at step \d+ \(epoch \d\); the largest gradient is ", ended.err)
    assert "in network.body.linear.weight" in ended.err and "optimizer.learning_rate" in ended.err
    assert "Traceback" not in ended.err
    assert program.result(program.only_run(home))["status"] == "FAILED"
