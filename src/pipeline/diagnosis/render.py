"""Render findings and suspicious samples for the console, Markdown and HTML."""

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
from pipeline.diagnosis.sample_checks import MOST_SUSPECTS
from pipeline.lifecycle.preflight import is_accepted
from pipeline.lifecycle.save_predictions import thumbnails
from pipeline.reports.html import element, image, page, remark, section
from pipeline.runs.run_directory import Run

COLUMNS = 4  # of a table, to identify a row
LONGEST_TEXT = 80  # characters of a sentence


def describe_suspects(
    suspects: tuple[SuspectLabel, ...], parts: Splits, class_names: tuple[str, ...]
) -> list[tuple[str, ...]]:
    """Return (row, label, suggested label, confidence, content) of each suspicious sample."""
    shown = suspects[:MOST_SUSPECTS]
    if not shown:
        return []
    inputs = parts.train.rows(torch.tensor([each.row for each in shown])).inputs
    contents = _sample_texts(inputs[: len(shown)], parts)
    return [
        (f"row {each.row}", class_names[each.label], class_names[each.suggested], f"{each.confidence:.0%}", *content)
        for each, content in zip(shown, contents, strict=True)
    ]


def _sample_texts(inputs: Tensor, parts: Splits) -> list[tuple[str, ...]]:
    if parts.kind == "table" and parts.feature_names:
        return [(", ".join(_cells(row.tolist(), parts)),) for row in inputs]
    if parts.kind == "text" and parts.tokenizer:
        from tokenizers import Tokenizer  # an optional package

        reader = Tokenizer.from_str(parts.tokenizer)
        return [(reader.decode([token for token in row if token])[:LONGEST_TEXT],) for row in inputs.tolist()]
    return [() for _ in inputs]


def _cells(row: list[float], parts: Splits) -> list[str]:
    names = parts.feature_names[:COLUMNS]
    meanings = parts.categories or ((),) * len(names)
    return [
        f"{name} {meaning[int(value)] if meaning else f'{value:.4g}'}"
        for name, meaning, value in zip(names, meanings, row, strict=False)
    ]


def suspects_page(name: str, suspects: tuple[SuspectLabel, ...], parts: Splits, class_names: tuple[str, ...]) -> str:
    """Return an HTML page with pictures of the suspicious samples."""
    shown = suspects[:MOST_SUSPECTS]
    inputs = parts.train.rows(torch.tensor([each.row for each in shown])).inputs
    cards = []
    for each, pixels in zip(shown, thumbnails(inputs[: len(shown)]), strict=True):
        what = f"{class_names[each.label]}, or {class_names[each.suggested]}?"
        words = element("span", element("b", what), element("br"), f"{each.confidence:.0%}, row {each.row}")
        cards.append(element("li", image(pixels, what), words, title=f"row {each.row} of the training split"))
    text = remark(
        f"The {len(shown)} of {len(suspects):,} that are the most suspicious: the label, and what it looks like."
    )
    return page(name, section("Suspicious training samples", text, element("ul", *cards, class_="samples")))


PRINTED = 8  # suspicious samples on the console; the file has MOST_SUSPECTS of them
HEAD = ("training sample", "labelled", "looks like", "confidence", "")

Samples = list[tuple[str, ...]]


def suggested_command(run: Run, finding: Finding) -> str | None:
    """Return the complete command to try, or None if the configuration check would refuse it."""
    changed = merge_overrides(run.overrides(), finding.overrides)
    if not finding.overrides or not is_accepted(changed):
        return None
    arguments = ["resume", f"run={run.id}", *finding.overrides] if finding.resumes else ["train", *changed]
    return shlex.join(["pipeline", *arguments])


def diagnosis_heading(found: Sequence[Finding], unchecked: Sequence[str]) -> str:
    what = ", ".join(each.name for each in found) or "no fault found"
    return f"{what} (not checked: {'; '.join(unchecked)})" if unchecked else what


def render_finding(run: Run, finding: Finding, samples: Samples) -> RenderableType:
    text = Text()
    text.append(f"\n{finding.name}", style="bold yellow").append(f"  {finding.explanation}\n")
    for figure in finding.evidence:
        text.append(f"  - {figure}\n")
    text.append("  to try  ", style="bold").append(finding.advice)
    if (command := suggested_command(run, finding)) is not None:
        text.append(f"\n    {command}")
    if not samples:
        return text
    table = Table(*HEAD[: len(samples[0])], show_edge=False, pad_edge=False)
    for row in samples[:PRINTED]:
        table.add_row(*row)
    return Group(text, "", table)


def diagnosis_markdown(run: Run, findings: Sequence[tuple[Finding, Samples]], unchecked: Sequence[str]) -> str:
    parts = [
        f"# Diagnosis of {run.id}",
        f"{diagnosis_heading([finding for finding, _ in findings], unchecked).capitalize()}.",
    ]
    for finding, samples in findings:
        parts += [f"## {finding.name.capitalize()}", finding.explanation]
        parts += ["\n".join(f"- {figure}" for figure in finding.evidence), finding.advice]
        if (command := suggested_command(run, finding)) is not None:
            parts += [f"```sh\n{command}\n```"]
        if samples:
            parts += ["The most suspicious training samples, the worst first:", _table(samples[:MOST_SUSPECTS])]
    return "\n\n".join(parts) + "\n"


def _table(rows: Samples) -> str:
    head = HEAD[: len(rows[0])]
    lines = [head, tuple("---" for _ in head), *(tuple(cell.replace("|", "\\|") for cell in row) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
