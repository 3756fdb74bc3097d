"""Amounts as people write them: 4h, 1h30m, 64GB."""

import re

from pipeline.errors import ConfigError

SECONDS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
MOST_SECONDS = 10 * 366 * 86400  # more than any cluster grants, and than some can count
MEBIBYTES = {"M": 1, "MB": 1, "MIB": 1, "G": 1024, "GB": 1024, "GIB": 1024, "T": 1024**2, "TB": 1024**2, "TIB": 1024**2}


def seconds_of(text: str | int | float, key: str) -> int:
    """`4h`, `90m`, `1h30m`, `2d`. Raises ConfigError naming `key`, also for a number without a unit."""
    parts = re.findall(r"(\d+(?:\.\d+)?)\s*([dhms])", str(text))
    total = round(sum(float(number) * SECONDS[unit] for number, unit in parts))
    if (
        not parts
        or "".join(f"{number}{unit}" for number, unit in parts) != re.sub(r"\s", "", str(text))
        or not 1 <= total < MOST_SECONDS
    ):
        raise ConfigError(f"{key}={text}: expected a time with its unit, such as {key}=4h or {key}=1h30m")
    return total


def mebibytes_of(text: str | int | float, key: str) -> int:
    """`64GB` or `512MB`, by powers of 1,024 as schedulers count. Raises ConfigError naming `key`."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]+)", str(text).strip())
    if match is None or match[2].upper() not in MEBIBYTES or float(match[1]) <= 0:
        raise ConfigError(f"{key}={text}: expected an amount of memory with its unit, such as {key}=64GB")
    return max(round(float(match[1]) * MEBIBYTES[match[2].upper()]), 1)
