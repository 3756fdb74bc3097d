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


def spoken_digits(folder: Path | None) -> str:
    """data.root of the Free Spoken Digit Dataset."""
    places = [CHECKOUT.parent / "shared" / "data" / "spoken-digits", *([] if folder is None else [folder])]
    for place in reversed(places):  # a folder that was said may be the one of other data
        if (place / "7_jackson_32.wav").exists():
            return str(place.resolve())
    raise Skipped(f"no spoken digits in {places[-1]}: say where they are with --data FOLDER")
