"""Seconds as people write them."""

AGE_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def format_age(seconds: float) -> str:
    size, unit = next((each for each in AGE_UNITS if seconds >= each[0]), AGE_UNITS[-1])
    return f"{seconds / size:.0f} {unit}"
