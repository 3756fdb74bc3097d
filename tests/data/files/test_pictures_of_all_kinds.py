"""What a image file may hold besides 8 bits of grey or colour: read, and said, or refused in words."""

import logging
import re
import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from tests.data.files.test_image_folder import ARGUMENTS

from pipeline.data.dataset import Splits
from pipeline.data.files.image_folder import ImageFolder
from pipeline.errors import DataError

RAMP = np.linspace(0, 255, 30).round().astype(np.uint8).reshape(6, 5)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def load(root: Path, **changed: Any) -> Splits:
    return ImageFolder(**{**ARGUMENTS, **changed}).load(root)


def png(values: npt.NDArray[np.uint16] | tuple[int, int], colour_type: int = 0) -> bytes:
    """With 16 bits a channel; or nothing but a header that says how (wide, high) it is."""
    wide, high = values if isinstance(values, tuple) else (values.shape[1], values.shape[0])
    rows = b"" if isinstance(values, tuple) else b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", wide, high, 16, colour_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def folder(tmp_path: Path, write: Callable[[Path, int], None]) -> Path:
    """Ten cats and ten dogs."""
    for number in range(20):
        place = tmp_path / "own" / ("cat", "dog")[number % 2] / f"{number:02}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        write(place, number)
    return tmp_path / "own"


@pytest.mark.parametrize("bits, factor", [(16, 257), (12, 4095 / 255), (10, 1023 / 255)])
def test_grey_of_16_bits_fills_the_range_that_it_uses(
    bits: int, factor: float, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    deep = np.rint(RAMP.astype(np.float64) * factor).astype(np.uint16)
    with caplog.at_level(logging.WARNING):
        parts = load(folder(tmp_path, lambda place, _: place.write_bytes(png(deep)) and None))
    assert parts.train.inputs[:].numpy().tolist() == [[RAMP.tolist()]] * len(parts.train)
    said = f"20 of 20 images have 16 bits, such as cat/00.png: they are read with 8; of grey ones 0 to {2**bits - 1}"
    assert said in caplog.text


def test_8_and_16_bits_grey_and_colour_may_stand_side_by_side(tmp_path: Path) -> None:
    deep = RAMP.astype(np.uint16) * 257
    contents: list[Callable[[Path], object]] = [
        lambda place: Image.fromarray(RAMP).save(place),
        lambda place: place.write_bytes(png(deep)),
        lambda place: place.write_bytes(png(np.stack([deep] * 3, -1), 2)),
        lambda place: place.write_bytes(png(np.stack([deep, np.full_like(deep, 65535)], -1), 4)),
        lambda place: Image.fromarray(RAMP).convert("P").save(place),
        lambda place: Image.fromarray(np.stack([RAMP] * 3 + [255 - RAMP], -1)).save(place),
    ]
    root = folder(tmp_path, lambda place, number: contents[number % len(contents)](place) and None)
    parts = load(root)
    assert parts.train.inputs.shape[1:] == (3, 6, 5)
    assert (parts.train.inputs[:].numpy() == RAMP).all(), "alpha is dropped, and grey is grey in every kind"


@pytest.mark.parametrize(
    "save",
    [
        lambda place: Image.fromarray((RAMP > 99).astype(np.uint8) * 255).convert("1").save(place, "PNG"),
        lambda place: Image.new("CMYK", (5, 6), (9, 0, 99, 0)).save(place, "JPEG"),
    ],
    ids=["1 bit", "CMYK"],
)
def test_other_colours_are_read(save: Callable[[Path], None], tmp_path: Path) -> None:
    parts = load(folder(tmp_path, lambda place, _: save(place)))
    assert parts.train.inputs[:].max() > 200 and parts.skipped == ()


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_of_what_moves_the_first_frame_is_read(kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first, second = (Image.fromarray(np.full((6, 5, 3), value, np.uint8)) for value in (40, 200))
    save: dict[str, Any] = {"format": kind, "save_all": True, "append_images": [second]}
    parts = load(folder(tmp_path, lambda place, _: first.save(place, **save)))
    assert abs(int(parts.train.inputs[:].float().mean()) - 40) < 3
    assert "20 of 20 images are animated, such as cat/00.png: their first frame is read" in caplog.text


BOMB, LARGE = png((60_000, 60_000)), png((10_000, 10_000))
REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "floats": (
        lambda place: Image.fromarray(RAMP.astype(np.float32)).save(place, "TIFF"),
        r"has pixels of 32 bits \(F\), expected 8 or 16",
    ),
    "whole numbers of 32 bits": (
        lambda place: Image.fromarray(RAMP.astype(np.int32)).save(place, "TIFF"),
        r"has pixels of 32 bits \(I\), expected 8 or 16",
    ),
    "a header that promises 3.6 gigapixels": (
        lambda place: place.write_bytes(BOMB),
        "has more pixels than an image should have",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_picture_for_a_network_is_refused_by_name(case: str, tmp_path: Path) -> None:
    write, said = REFUSED[case]
    root = folder(tmp_path, lambda place, _: Image.fromarray(RAMP).save(place))
    write(root / "dog" / "odd.png")
    with pytest.raises(DataError, match=rf"(?s)1 of 21 images.*odd\.png {said}"):
        load(root)
    (skipped,) = load(root, on_bad_sample="skip").skipped
    assert re.search(said, skipped)


def test_a_large_picture_is_read_or_named_whatever_python_makes_of_warnings(tmp_path: Path) -> None:
    root = folder(tmp_path, lambda place, _: Image.fromarray(RAMP).save(place))
    (root / "dog" / "odd.png").write_bytes(LARGE)  # says 100 megapixels, and holds none
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(DataError, match=r"odd\.png (has more pixels|cannot be read)"):
            load(root)
