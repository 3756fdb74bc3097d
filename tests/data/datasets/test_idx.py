"""The IDX format."""

import struct
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.data.datasets.mnist import parse_idx
from pipeline.errors import DataError


def written(sizes: Sequence[int], values: bytes) -> bytearray:
    return bytearray(bytes([0, 0, 8, len(sizes)]) + struct.pack(f">{len(sizes)}I", *sizes) + values)


@settings(deadline=None)
@given(sizes=st.lists(st.integers(0, 5), min_size=1, max_size=4), data=st.data())
def test_an_idx_file_of_any_shape_is_read_as_it_was_written(sizes: list[int], data: st.DataObject) -> None:
    count = int(torch.tensor(sizes).prod())
    values = data.draw(st.binary(min_size=count, max_size=count))
    tensor = parse_idx(written(sizes, values), dimensions=len(sizes), where="it")
    assert tensor.dtype == torch.uint8
    assert list(tensor.shape) == sizes
    assert bytes(tensor.flatten().tolist()) == values


@pytest.mark.parametrize(
    "content, reason",
    [
        (b"", "begins with nothing, expected 00 00 08 03 and 3 size"),
        (b"\x00\x00\x08\x03\x00", "begins with 00 00 08 03, expected 00 00 08 03 and 3 size"),
        (written([6], bytes(6)), "begins with 00 00 08 01, expected 00 00 08 03"),
        (b"\x00\x00\x0d\x03" + bytes(12), "begins with 00 00 0d 03"),
        (b"PK\x03\x04" + bytes(40), "begins with 50 4b 03 04"),
        (written([2, 3, 4], bytes(23)), "announces 2 x 3 x 4 values but holds 23"),
        (written([2, 3, 4], bytes(25)), "announces 2 x 3 x 4 values but holds 25"),
        (written([2**31, 2**31, 2**31], bytes(25)), "but holds 25"),
    ],
)
def test_anything_else_is_refused_by_name(content: bytes, reason: str) -> None:
    with pytest.raises(DataError, match=f"^my-images.*{reason}"):
        parse_idx(bytearray(content), dimensions=3, where="my-images")
