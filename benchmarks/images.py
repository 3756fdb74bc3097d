"""The user's own pictures: how soon they are read, how soon the second time, and how little of them memory holds."""

import hashlib
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import torch
from PIL import Image

from benchmarks.figure import Figure, Skipped
from benchmarks.running import CHECKOUT, train
from pipeline.data.dataset import Split, Splits
from pipeline.data.datasets.mnist import MNIST5k
from pipeline.data.files.cache import channel_sums
from pipeline.data.on_disk import OnDiskTensor, RowFile
from pipeline.system.files import cache_folder

PICTURES = 10_000
LARGE = 5 * 10**9  # bytes
SHAPE = (3, 64, 64)
GENERATED = 4096  # pictures that differ; the large file repeats them


def images(folder: Path | None) -> Iterator[Figure]:
    """10,000 small PNGs into the cache and from it; 5 GB of pixels through one epoch."""
    with tempfile.TemporaryDirectory() as home:
        write_pictures(Path(home, "digits"))
        first, second = (_loaded(home) for _ in range(2))
    for name, found, target in (("read", first, 15), ("second start", second, 2)):
        seconds = found["seconds"]
        yield Figure(f"{PICTURES:,} small PNGs: {name}", f"{seconds:.1f} s", None, seconds, target, "lower", " s")
    grown = first["megabytes"]
    yield Figure(f"{PICTURES:,} small PNGs: memory for reading", f"{grown:.0f} MB", None, grown, 100, "lower", " MB")
    yield from _large()


def _large() -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as home:
        if psutil.disk_usage(home).free < 2 * LARGE:
            raise Skipped(f"{home} has no room for {LARGE / 1e9:.0f} GB")
        run = train(
            "data=image_folder", "data.root=null", "~data.source", "+data.source._target_=benchmarks.images.Repeated",
            "allow_packages=[benchmarks]", "model=logistic_regression", "trainer.max_epochs=1", "data.batch_size=256",
            "tracking=none",
            environment={"XDG_CACHE_HOME": home},
        )  # fmt: skip
    peak, what = run.peak_megabytes, f"one epoch over {LARGE / 1e9:.0f} GB of pixels: resident at most"
    yield Figure(what, f"{peak:.0f} MB ({run.seconds:.0f} s)", None, peak, 1500, "lower", " MB")


def write_pictures(folder: Path) -> None:
    """One folder a class."""
    parts = MNIST5k().load(None)
    digits = torch.cat([part.inputs[:, 0] for part in parts.by_name().values()]).numpy()
    labels = torch.cat([part.targets for part in parts.by_name().values()]).tolist()
    for label in set(labels):
        (folder / str(label)).mkdir(parents=True)
    for number in range(PICTURES):
        turned = digits[number % len(digits)][:: -1 if number >= len(digits) else 1]
        Image.fromarray(turned).save(folder / str(labels[number % len(digits)]) / f"{number:05}.png")


def _loaded(home: str) -> dict[str, float]:
    """In a process of its own."""
    environment = os.environ | {"XDG_CACHE_HOME": home, "PYTHONPATH": os.pathsep.join([*sys.path[1:], str(CHECKOUT)])}
    command = [sys.executable, "-m", "benchmarks.images", str(Path(home, "digits"))]
    found = subprocess.run(command, env=environment, cwd=CHECKOUT, check=True, capture_output=True, text=True)
    answer: dict[str, float] = json.loads(found.stdout.splitlines()[-1])
    return answer


def load(root: str) -> dict[str, float]:
    """Seconds of loading, and by how many MB the process grew at most."""
    from pipeline.config import instantiate
    from pipeline.config.compose import compose

    config = compose(["data=image_folder", f"data.root={root}"]).config
    module = instantiate.instantiate(config.data, config, seed=config.seed)
    before, started_at = psutil.Process().memory_info().rss, time.perf_counter()
    module.load()
    seconds = time.perf_counter() - started_at
    return {"seconds": seconds, "megabytes": (most_resident() - before) / 1e6}


def most_resident() -> int:
    """Bytes. What getrusage tells begins, on Linux, with the parent's."""
    status = Path("/proc/self/status")
    if status.exists():
        found = re.search(r"VmHWM:\s*(\d+) kB", status.read_text())
        assert found is not None
        return int(found[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # of macOS, in bytes


class Repeated:
    """As many pictures as fill the large file, of two classes; written on the first call."""

    def load(self, root: Path | None) -> Splits:
        pixels = np.random.default_rng(0).integers(0, 256, (GENERATED, *SHAPE), dtype=np.uint8)
        repeats = -(-LARGE // pixels.nbytes)
        place = cache_folder() / "large.pixels"
        if not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            with place.open("wb") as file:
                for _ in range(repeats):
                    file.write(pixels.data)
        hashes = [hashlib.blake2b(each.data, digest_size=16).digest() for each in pixels]
        known = np.frombuffer(b"".join(hashes), dtype=np.uint8).reshape(-1, 16)
        sums = np.stack([channel_sums(each) for each in pixels])
        size = repeats * GENERATED
        file = RowFile(place, (size, *SHAPE), torch.uint8, np.tile(known, (repeats, 1)), np.tile(sums, (repeats, 1, 1)))
        targets = torch.arange(size) % 2
        rows = torch.split(torch.arange(size), [size - size // 10, size // 20, size // 10 - size // 20])
        train, validation, test = (Split(OnDiskTensor(file, each), targets[each]) for each in rows)
        return Splits("repeated", "image", "binary", ("even", "odd"), train, validation, test)


if __name__ == "__main__":
    print(json.dumps(load(sys.argv[1])))
