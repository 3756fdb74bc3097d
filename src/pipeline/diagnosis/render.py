"""Suspicious samples as a person can find them: a row's first values, a sentence, a picture."""

import shlex
from collections.abc import Sequence

import torch
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from torch import Tensor

from pipeline.data.dataset import Splits
from pipeline.diagnosis.advice import merge_overrides
from pipeline.diagnosis.finding import Finding, SuspectLabel
from pipeline.diagnosis.sample_checks import SHOWN
from pipeline.lifecycle.preflight import is_accepted
from pipeline.lifecycle.save_predictions import thumbnails
from pipeline.reports.html import element, image, page, remark, section
from pipeline.runs.run_directory import Run

COLUMNS = 4  # of a table's that tell a row from others
LONGEST = 80  # characters of a sentence


def describe_suspects(
    suspects: tuple[SuspectLabel, ...], parts: Splits, class_names: tuple[str, ...]
) -> list[tuple[str, ...]]:
    """Row, label, what it looks like, how sure that is, and what it says."""
    shown = suspects[:SHOWN]
    if not shown:
        return []
    inputs = parts.train.rows(torch.tensor([each.row for each in shown])).inputs
    said = _sample_texts(inputs[: len(shown)], parts)
    return [
        (f"row {each.row}", class_names[each.given], class_names[each.instead], f"{each.sureness:.0%}", *content)
        for each, content in zip(shown, said, strict=True)
    ]


def _sample_texts(inputs: Tensor, parts: Splits) -> list[tuple[str, ...]]:
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


def suspects_page(name: str, suspects: tuple[SuspectLabel, ...], parts: Splits, class_names: tuple[str, ...]) -> str:
    """A page of pictures."""
    shown = suspects[:SHOWN]
    inputs = parts.train.rows(torch.tensor([each.row for each in shown])).inputs
    cards = []
    for each, pixels in zip(shown, thumbnails(inputs[: len(shown)]), strict=True):
        what = f"{class_names[each.given]}, or {class_names[each.instead]}?"
        words = element("span", element("b", what), element("br"), f"{each.sureness:.0%}, row {each.row}")
        cards.append(element("li", image(pixels, what), words, title=f"row {each.row} of the training part"))
    told = remark(
        f"The {len(shown)} of {len(suspects):,} that are the most suspicious: the label, and what it looks like."
    )
    return page(name, section("Suspicious training samples", told, element("ul", *cards, class_="samples")))


PRINTED = 8  # suspicious samples; the file has SHOWN of them
HEAD = ("training sample", "labelled", "looks like", "sureness", "")

Samples = list[tuple[str, ...]]


def suggested_command(run: Run, finding: Finding) -> str | None:
    """All of it, to be typed; None where the configuration check would refuse it."""
    changed = merge_overrides(run.overrides(), finding.overrides)
    if not finding.overrides or not is_accepted(changed):
        return None
    words = ["resume", f"run={run.id}", *finding.overrides] if finding.resumes else ["train", *changed]
    return shlex.join(["pipeline", *words])


def diagnosis_heading(found: Sequence[Finding], unseen: Sequence[str]) -> str:
    what = ", ".join(each.fault for each in found) or "nothing found that is wrong"
    return f"{what} (not looked for: {'; '.join(unseen)})" if unseen else what


def render_finding(run: Run, finding: Finding, samples: Samples) -> RenderableType:
    text = Text()
    text.append(f"\n{finding.fault}", style="bold yellow").append(f"  {finding.told}\n")
    for figure in finding.figures:
        text.append(f"  - {figure}\n")
    text.append("  to try  ", style="bold").append(finding.advice)
    if (typed := suggested_command(run, finding)) is not None:
        text.append(f"\n    {typed}")
    if not samples:
        return text
    table = Table(*HEAD[: len(samples[0])], show_edge=False, pad_edge=False)
    for row in samples[:PRINTED]:
        table.add_row(*row)
    return Group(text, "", table)


def diagnosis_markdown(run: Run, told: Sequence[tuple[Finding, Samples]], unseen: Sequence[str]) -> str:
    parts = [f"# Diagnosis of {run.id}", f"{diagnosis_heading([finding for finding, _ in told], unseen).capitalize()}."]
    for finding, samples in told:
        parts += [f"## {finding.fault.capitalize()}", finding.told]
        parts += ["\n".join(f"- {figure}" for figure in finding.figures), finding.advice]
        if (typed := suggested_command(run, finding)) is not None:
            parts += [f"```sh\n{typed}\n```"]
        if samples:
            parts += ["The most suspicious training samples, the worst first:", _table(samples[:SHOWN])]
    return "\n\n".join(parts) + "\n"


def _table(rows: Samples) -> str:
    head = HEAD[: len(rows[0])]
    lines = [head, tuple("---" for _ in head), *(tuple(cell.replace("|", "\\|") for cell in row) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
