"""Where the full data sets lie."""

from pathlib import Path

from benchmarks.figure import Skipped
from benchmarks.running import CHECKOUT


def mnist(folder: Path | None) -> str:
    """data.root of the full MNIST."""
    chosen = folder or CHECKOUT.parent / "shared" / "data" / "mnist"
    if not (chosen / "train-images-idx3-ubyte.gz").exists():
        raise Skipped(f"no MNIST in {chosen}: say where it is with --data FOLDER")
    return str(chosen.resolve())


def sst2(folder: Path | None) -> str:
    """data.root of the Stanford Sentiment Treebank's sentences."""
    beside = [] if folder is None else [folder, folder.parent / "sst2"]
    for chosen in (*beside, CHECKOUT.parent / "shared" / "data" / "sst2"):
        if (chosen / "train.tsv").exists():
            return str(chosen.resolve())
    raise Skipped("no SST-2 (train.tsv, dev.tsv, test.tsv) was found: say where it is with --data FOLDER")
