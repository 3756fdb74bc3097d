"""The IDX format of MNIST and its kin: two zero bytes, a type, the number of dimensions, then big-endian
sizes and the values (LeCun, Cortes & Burges, "The MNIST database")."""

import struct
from math import prod

import torch
from torch import Tensor

from pipeline.errors import DataError

UINT8 = 0x08


def parse(content: bytearray, *, dimensions: int, where: str) -> Tensor:
    """The uint8 tensor an IDX file holds; it shares the memory of `content`.

    `dimensions` is what is expected (3 for images, 1 for labels); `where` names the file in the errors.
    Raises DataError when the header is another one or the length does not fit it.
    """
    header = 4 + 4 * dimensions
    expected = bytes([0, 0, UINT8, dimensions])
    found = bytes(content[:4])
    if found != expected or len(content) < header:
        raise DataError(
            f"{where} is no IDX file of bytes with {dimensions} dimension(s): it begins with "
            f"{found.hex(' ') or 'nothing'}, expected {expected.hex(' ')} and {dimensions} size(s)."
        )
    sizes = struct.unpack(f">{dimensions}I", content[4:header])
    if len(content) - header != prod(sizes):
        raise DataError(
            f"{where} announces {' x '.join(map(str, sizes))} values but holds {len(content) - header:,}. "
            "It is cut off or damaged: put a fresh copy in its place."
        )
    if prod(sizes) == 0:
        return torch.empty(sizes, dtype=torch.uint8)
    return torch.frombuffer(content, dtype=torch.uint8, offset=header).reshape(sizes)
