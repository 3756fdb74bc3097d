"""What is found wrong once the data is there: exit 2 (or 1 when training broke down), and no half-made run."""

import gzip
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

# A user's own source; what is wrong with it can be chosen.
SOURCE = """
import torch
from pipeline.data.source import Part, Parts

class Noise:
    def __init__(self, *, labels: int = 4, empty: str = "") -> None:
        self.labels, self.empty = labels, empty

    def load(self, root):
        generator = torch.Generator().manual_seed(0)
        def part(name, size):
            size = 0 if name == self.empty else size
            inputs = torch.randint(0, 256, (size, 1, 8, 8), dtype=torch.uint8, generator=generator)
            return Part(inputs, torch.arange(size) % self.labels)
        parts = {name: part(name, size) for name, size in (("train", 256), ("validation", 64), ("test", 64))}
        return Parts(name="noise", kind="image", task="multiclass", class_names=tuple("abcd"), **parts)
"""
OWN = ("allow_packages=[mine]", "data.source._target_=mine.Noise", "model.widths=[4]")
FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
DEAD_PROXY = {"https_proxy": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9", "no_proxy": ""}


@pytest.fixture(scope="module")
def endings(program: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    root = tmp_path_factory.mktemp("data")

    def train(name: str, *arguments: str, **environment: str) -> Callable[[], Any]:
        folder = root / name
        folder.mkdir()
        (folder / "mine.py").write_text(SOURCE)
        (folder / "no files").mkdir()
        swapped = folder / "swapped"
        swapped.mkdir()
        for file in FILES:
            images = struct.pack(">4BII", 0, 0, 8, 1, 0, 0)
            (swapped / f"{file}.gz").write_bytes(gzip.compress(images))
        return lambda: program.run(folder, "train", "tracking=none", *arguments, **environment)

    return program.side_by_side(
        {
            name: train(name, *arguments, **environment)
            for name, arguments, environment in (
                ("a folder without the files", ("data=mnist", "data.root=no files"), {}),
                ("a folder that is not there", ("data=mnist", "data.root=nowhere"), {}),
                ("other files of that name", ("data=mnist", "data.root=swapped"), {}),
                ("no network", ("data=mnist",), DEAD_PROXY | {"XDG_CACHE_HOME": str(root / "cache")}),
                ("a label out of range", (*OWN, "+data.source.labels=5"), {}),
                ("an empty test part", (*OWN, "+data.source.empty=test"), {}),
                ("more in a batch than there is", (*OWN, "data.batch_size=257"), {}),
                ("too many blocks", ("model.widths=[4,4,4,4,4]",), {}),
                ("a metric that nothing produces", ("callbacks.early_stopping.monitor=val/acuracy",), {}),
                ("a loss that is no number", (*OWN, "model=softmax_regression", "optimizer=sgd",
                  "optimizer.learning_rate=1e30", "trainer.max_epochs=5"), {}),
            )
        }
    )  # fmt: skip


EXPECTED = {
    "a folder without the files": ["train-images-idx3-ubyte", "no files", "data=mnist5k"],
    "a folder that is not there": ["nowhere", "does not exist", "data=mnist5k"],
    "other files of that name": ["swapped/train-images-idx3-ubyte.gz", "47,040,016 bytes", "data=mnist5k"],
    "no network": ["could not be downloaded", "cannot be reached", "data.root=", "data=mnist5k"],
    "a label out of range": ["noise's train part", "label 4", "expected 0 to 3", "class_names"],
    "an empty test part": ["noise's test part is empty", "needs at least one sample"],
    "more in a batch than there is": ["data.batch_size=257", "256 training samples", "use at most 256"],
    "too many blocks": ["model.widths=[4, 4, 4, 4, 4]", "28x28", "at most 4 blocks"],
    "a metric that nothing produces": ["val/acuracy", "nothing produces", "val/accuracy"],
}


@pytest.mark.parametrize("case", EXPECTED)
def test_it_is_refused_in_words_and_leaves_no_run(endings: dict[str, Any], program: Any, case: str) -> None:
    ended = endings[case]
    assert ended.code == 2, ended.err
    assert "Traceback" not in ended.err and ended.out == ""
    assert [words for words in EXPECTED[case] if words not in ended.err] == []


@pytest.mark.parametrize("case", EXPECTED)
def test_it_leaves_no_run(endings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory, case: str) -> None:
    (root,) = tmp_path_factory.getbasetemp().glob(f"data*/{case}")
    assert case in endings
    assert [path for path in root.glob("runs/*")] == []


def test_a_loss_that_is_no_number_ends_the_run_with_step_and_gradient(endings: dict[str, Any]) -> None:
    ended = endings["a loss that is no number"]
    assert ended.code == 1, ended.err
    assert ended.err.startswith("failed: the loss is ") and "Traceback" not in ended.err
    assert "at step " in ended.err and "largest gradient" in ended.err
    assert "optimizer.learning_rate" in ended.err


def test_such_a_run_stands_as_failed(endings: dict[str, Any], program: Any, tmp_path_factory: Any) -> None:
    (root,) = tmp_path_factory.getbasetemp().glob("data*/a loss that is no number")
    assert program.result(program.only_run(root))["status"] == "FAILED"
