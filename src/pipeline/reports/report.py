"""`report.html`: one run on one page, made from its directory alone."""

import sys
from pathlib import Path

from pipeline.errors import DONE, USER_ERROR, UserError
from pipeline.reports import residuals, sections, verdicts
from pipeline.reports.evidence import Evidence, gather
from pipeline.reports.markup import element
from pipeline.reports.page import page
from pipeline.runs.run_directory import Run
from pipeline.system import streams
from pipeline.system.files import locked, write_atomically

NAME = "report.html"
LOCK = ".report.lock"
PATIENCE_SECONDS = 10.0


def write(run: Run, status: str | None = None) -> Path:
    """Raises RunError for a run that has not started.

    The run itself and the process that shows how far it has come may both want to: whoever is last has read last.
    """
    path = run.folder / NAME
    with locked(run.folder / LOCK, timeout_seconds=PATIENCE_SECONDS):
        write_atomically(path, render(gather(run, status)))
    return path


def render(evidence: Evidence) -> str:
    return page(
        str(evidence.start["name"]),
        sections.top(evidence),
        sections.figures(evidence),
        sections.learning_curves(evidence),
        verdicts.by_class(evidence),
        verdicts.by_label(evidence),
        verdicts.sureness(evidence),
        verdicts.mistakes(evidence),
        verdicts.close_calls(evidence),
        residuals.residuals(evidence),
        residuals.furthest(evidence),
        sections.timing(evidence),
        sections.settings(evidence),
        sections.commands(evidence),
        sections.environment(evidence),
        element("footer", f"{evidence.run.id} · made from the run directory alone"),
    )


if __name__ == "__main__":
    try:
        write(Run.told(sys.argv[1:]))
    except UserError as problem:
        streams.report("error", str(problem), sys.stderr)
        sys.exit(USER_ERROR)
    sys.exit(DONE)
