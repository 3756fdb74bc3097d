"""Durations and amounts of memory as people write them: 4h, 1h30m, 64GB."""

import re

from pipeline.errors import ConfigError

AGE_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def format_age(seconds: float) -> str:
    """Return an age in its largest unit: 3 h."""
    size, unit = next((each for each in AGE_UNITS if seconds >= each[0]), AGE_UNITS[-1])
    return f"{seconds / size:.0f} {unit}"


SECONDS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
MAX_SECONDS = 10 * 366 * 86400  # more than any cluster grants, and than some can count
MEBIBYTES = {"M": 1, "MB": 1, "MIB": 1, "G": 1024, "GB": 1024, "GIB": 1024, "T": 1024**2, "TB": 1024**2, "TIB": 1024**2}


def parse_duration(text: str | int | float, key: str) -> int:
    """Return the seconds of `4h`, `90m`, `1h30m` or `2d`. Raises ConfigError naming `key`, also without a unit."""
    parts = re.findall(r"(\d+(?:\.\d+)?)\s*([dhms])", str(text))
    total = round(sum(float(number) * SECONDS[unit] for number, unit in parts))
    if (
        not parts
        or "".join(f"{number}{unit}" for number, unit in parts) != re.sub(r"\s", "", str(text))
        or not 1 <= total < MAX_SECONDS
    ):
        raise ConfigError(f"{key}={text}: expected a time with its unit, such as {key}=4h or {key}=1h30m")
    return total


def parse_mebibytes(text: str | int | float, key: str) -> int:
    """Return the MiB of `64GB` or `512MB`, in powers of 1,024 as schedulers count. Raises ConfigError naming `key`."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]+)", str(text).strip())
    if match is None or match[2].upper() not in MEBIBYTES or float(match[1]) <= 0:
        raise ConfigError(f"{key}={text}: expected an amount of memory with its unit, such as {key}=64GB")
    return max(round(float(match[1]) * MEBIBYTES[match[2].upper()]), 1)
