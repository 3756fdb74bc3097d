"""Times and amounts of memory as people write them."""

import pytest

from pipeline.errors import ConfigError
from pipeline.launch.units import mebibytes_of, seconds_of


@pytest.mark.parametrize(
    "text, seconds", [("4h", 14400), ("30m", 1800), ("1h30m", 5400), ("2d", 172800), ("1.5h", 5400), ("90s", 90)]
)
def test_times(text: str, seconds: int) -> None:
    assert seconds_of(text, "launch.time") == seconds


@pytest.mark.parametrize("text", ["4", "h", "4 hours", "-4h", "0h", ""])
def test_what_is_no_time_is_refused_with_one(text: str) -> None:
    with pytest.raises(ConfigError, match=r"launch\.time=4h"):
        seconds_of(text, "launch.time")


@pytest.mark.parametrize("text, mebibytes", [("64GB", 65536), ("512M", 512), ("1.5G", 1536), ("1TiB", 1048576)])
def test_memory(text: str, mebibytes: int) -> None:
    assert mebibytes_of(text, "launch.memory_per_node") == mebibytes


@pytest.mark.parametrize("text", ["64", "GB", "64 apples", "0GB"])
def test_what_is_no_memory_is_refused_with_some(text: str) -> None:
    with pytest.raises(ConfigError, match=r"launch\.memory_per_node=64GB"):
        mebibytes_of(text, "launch.memory_per_node")
