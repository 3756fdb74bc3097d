"""How many samples stand in two parts, or twice in one."""

from collections import Counter

from pipeline.data.dataset import Split, Splits
from pipeline.data.duplicates import digests, digests_of
from pipeline.diagnosis.symptoms import Copies


def copies(parts: Splits) -> dict[str, Copies]:
    """Of the validation and the test part in the training part; and of training samples that stand there twice."""
    inputs = {name: digests(part) for name, part in parts.by_name().items()}
    whole = {name: _with_answers(inputs[name], part) for name, part in parts.by_name().items()}
    found = {name: _copies(name, inputs, whole) for name in ("validation", "test")}
    counts, answered = Counter(inputs["train"]), Counter(whole["train"])
    twice = sum(count for count in counts.values() if count > 1)
    agreeing = sum(count for count in answered.values() if count > 1)
    return found | {"train": Copies(twice, agreeing, len(parts.train))}


def _copies(name: str, inputs: dict[str, list[bytes]], whole: dict[str, list[bytes]]) -> Copies:
    seen, answered = set(inputs["train"]), set(whole["train"])
    alike = sum(each in seen for each in inputs[name])
    return Copies(alike, sum(each in answered for each in whole[name]), len(inputs[name]))


def _with_answers(inputs: list[bytes], part: Split) -> list[bytes]:
    return [row + answer for row, answer in zip(inputs, digests_of(part.targets[:, None]), strict=True)]
