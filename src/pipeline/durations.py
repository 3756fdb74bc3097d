"""Seconds as people write them."""

AGES = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def age_of(seconds: float) -> str:
    size, unit = next((each for each in AGES if seconds >= each[0]), AGES[-1])
    return f"{seconds / size:.0f} {unit}"
