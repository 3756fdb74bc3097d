"""Pictures of samples as PNG, inside the page."""

import base64
import struct
import zlib

from pipeline.reports.markup import Html, element
from pipeline.reports.statistics import Ints

GREY, COLOUR = 0, 2  # colour types of PNG (ISO/IEC 15948, 11.2.2)


def png(pixels: Ints) -> bytes:
    """(H, W) or (H, W, 3) uint8."""
    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)  # each row led by its filter: none
    header = struct.pack(">IIBBBBB", width, height, 8, GREY if pixels.ndim == 2 else COLOUR, 0, 0, 0)
    chunks = _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(rows, 9)) + _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def address(content: bytes) -> str:
    """Of a PNG that is part of the page."""
    return f"data:image/png;base64,{base64.b64encode(content).decode('ascii')}"


def picture(pixels: Ints, description: str) -> Html:
    return element("img", src=address(png(pixels)), alt=description)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
