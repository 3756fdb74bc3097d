"""Suspicious samples as a person can find them: a row's first values, a sentence, a picture."""

import torch
from torch import Tensor

from pipeline.data.dataset import Splits
from pipeline.diagnosis.finding import Suspect
from pipeline.diagnosis.sample_checks import SHOWN
from pipeline.lifecycle.thumbnails import thumbnails
from pipeline.reports.html import note, page, section
from pipeline.reports.images import picture
from pipeline.reports.markup import element

COLUMNS = 4  # of a table's that tell a row from others
LONGEST = 80  # characters of a sentence


def described(suspects: tuple[Suspect, ...], parts: Splits, class_names: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Row, label, what it looks like, how sure that is, and what it says."""
    shown = suspects[:SHOWN]
    if not shown:
        return []
    inputs = parts.train.rows(torch.tensor([each.row for each in shown])).inputs
    said = _said(inputs[: len(shown)], parts)
    return [
        (f"row {each.row}", class_names[each.given], class_names[each.instead], f"{each.sureness:.0%}", *content)
        for each, content in zip(shown, said, strict=True)
    ]


def _said(inputs: Tensor, parts: Splits) -> list[tuple[str, ...]]:
    if parts.kind == "table" and parts.feature_names:
        return [(", ".join(_cells(row.tolist(), parts)),) for row in inputs]
    if parts.kind == "text" and parts.tokenizer:
        from tokenizers import Tokenizer  # an optional package

        reader = Tokenizer.from_str(parts.tokenizer)
        return [(reader.decode([token for token in row if token])[:LONGEST],) for row in inputs.tolist()]
    return [() for _ in inputs]


def _cells(row: list[float], parts: Splits) -> list[str]:
    names = parts.feature_names[:COLUMNS]
    meanings = parts.categories or ((),) * len(names)
    return [
        f"{name} {meaning[int(value)] if meaning else f'{value:.4g}'}"
        for name, meaning, value in zip(names, meanings, row, strict=False)
    ]


def pictured(name: str, suspects: tuple[Suspect, ...], parts: Splits, class_names: tuple[str, ...]) -> str:
    """A page of pictures."""
    shown = suspects[:SHOWN]
    inputs = parts.train.rows(torch.tensor([each.row for each in shown])).inputs
    cards = []
    for each, pixels in zip(shown, thumbnails(inputs[: len(shown)]), strict=True):
        what = f"{class_names[each.given]}, or {class_names[each.instead]}?"
        words = element("span", element("b", what), element("br"), f"{each.sureness:.0%}, row {each.row}")
        cards.append(element("li", picture(pixels, what), words, title=f"row {each.row} of the training part"))
    told = note(
        f"The {len(shown)} of {len(suspects):,} that are the most suspicious: the label, and what it looks like."
    )
    return page(name, section("Suspicious training samples", told, element("ul", *cards, class_="samples")))
