"""A diagnosis as a person reads it: on the console, and as Markdown in the run directory."""

import shlex
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pipeline.diagnosis.advice import merged
from pipeline.diagnosis.finding import Finding
from pipeline.diagnosis.sample_checks import SHOWN
from pipeline.lifecycle.preflight import is_accepted
from pipeline.runs.run_directory import Run

PRINTED = 8  # suspicious samples; the file has SHOWN of them
HEAD = ("training sample", "labelled", "looks like", "sureness", "")

Samples = list[tuple[str, ...]]


def command(run: Run, finding: Finding) -> str | None:
    """All of it, to be typed; None where the configuration check would refuse it."""
    changed = merged(run.overrides(), finding.overrides)
    if not finding.overrides or not is_accepted(changed):
        return None
    words = ["resume", f"run={run.id}", *finding.overrides] if finding.resumes else ["train", *changed]
    return shlex.join(["pipeline", *words])


def heading(found: Sequence[Finding], unseen: Sequence[str]) -> str:
    what = ", ".join(each.fault for each in found) or "nothing found that is wrong"
    return f"{what} (not looked for: {'; '.join(unseen)})" if unseen else what


def printed(run: Run, finding: Finding, samples: Samples) -> RenderableType:
    text = Text()
    text.append(f"\n{finding.fault}", style="bold yellow").append(f"  {finding.told}\n")
    for figure in finding.figures:
        text.append(f"  - {figure}\n")
    text.append("  to try  ", style="bold").append(finding.advice)
    if (typed := command(run, finding)) is not None:
        text.append(f"\n    {typed}")
    if not samples:
        return text
    table = Table(*HEAD[: len(samples[0])], show_edge=False, pad_edge=False)
    for row in samples[:PRINTED]:
        table.add_row(*row)
    return Group(text, "", table)


def markdown(run: Run, told: Sequence[tuple[Finding, Samples]], unseen: Sequence[str]) -> str:
    parts = [f"# Diagnosis of {run.id}", f"{heading([finding for finding, _ in told], unseen).capitalize()}."]
    for finding, samples in told:
        parts += [f"## {finding.fault.capitalize()}", finding.told]
        parts += ["\n".join(f"- {figure}" for figure in finding.figures), finding.advice]
        if (typed := command(run, finding)) is not None:
            parts += [f"```sh\n{typed}\n```"]
        if samples:
            parts += ["The most suspicious training samples, the worst first:", _table(samples[:SHOWN])]
    return "\n\n".join(parts) + "\n"


def _table(rows: Samples) -> str:
    head = HEAD[: len(rows[0])]
    lines = [head, tuple("---" for _ in head), *(tuple(cell.replace("|", "\\|") for cell in row) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
