"""Times and amounts of memory as people write them."""

import pytest

from pipeline.durations import parse_duration, parse_mebibytes
from pipeline.errors import ConfigError


@pytest.mark.parametrize(
    "text, seconds", [("4h", 14400), ("30m", 1800), ("1h30m", 5400), ("2d", 172800), ("1.5h", 5400), ("90s", 90)]
)
def test_times_with_units_are_read(text: str, seconds: int) -> None:
    assert parse_duration(text, "launch.time") == seconds


@pytest.mark.parametrize("text", ["4", "h", "4 hours", "-4h", "0h", ""])
def test_text_that_is_no_time_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ConfigError, match=r"launch\.time=4h"):
        parse_duration(text, "launch.time")


@pytest.mark.parametrize("text, mebibytes", [("64GB", 65536), ("512M", 512), ("1.5G", 1536), ("1TiB", 1048576)])
def test_amounts_of_memory_are_read(text: str, mebibytes: int) -> None:
    assert parse_mebibytes(text, "launch.memory_per_node") == mebibytes


@pytest.mark.parametrize("text", ["64", "GB", "64 apples", "0GB"])
def test_text_that_is_no_amount_of_memory_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ConfigError, match=r"launch\.memory_per_node=64GB"):
        parse_mebibytes(text, "launch.memory_per_node")
