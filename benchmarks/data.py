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
    return _beside(folder, "sst2", file="train.tsv")


def spoken_digits(folder: Path | None) -> str:
    """data.root of the Free Spoken Digit Dataset."""
    return _beside(folder, "spoken-digits", file="7_jackson_32.wav")


def _beside(folder: Path | None, name: str, *, file: str) -> str:
    """A folder that was said may be that of other data, which has this one for a neighbour."""
    said = [] if folder is None else [folder, folder.parent / name]
    for place in (*said, CHECKOUT.parent / "shared" / "data" / name):
        if (place / file).exists():
            return str(place.resolve())
    raise Skipped(f"no {name} with {file} was found: say where it is with --data FOLDER")
