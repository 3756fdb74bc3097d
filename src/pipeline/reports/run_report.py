"""`report.html`: one run on one page, made from its directory alone."""

import sys
from pathlib import Path

from pipeline.errors import DONE, USER_ERROR, UserError
from pipeline.reports import classification_sections, regression_sections, sections
from pipeline.reports.html import element, page
from pipeline.reports.report_data import Evidence, gather
from pipeline.runs.run_directory import Run
from pipeline.system import streams
from pipeline.system.files import file_lock, write_atomically

NAME = "report.html"
LOCK = ".report.lock"
PATIENCE_SECONDS = 10.0


def write(run: Run, status: str | None = None) -> Path:
    """Raises RunError for a run that has not started.

    The run itself and the process that shows how far it has come may both want to: whoever is last has read last.
    """
    path = run.folder / NAME
    with file_lock(run.folder / LOCK, timeout_seconds=PATIENCE_SECONDS):
        write_atomically(path, render(gather(run, status)))
    return path


def render(evidence: Evidence) -> str:
    return page(
        str(evidence.start["name"]),
        sections.top(evidence),
        sections.figures(evidence),
        sections.learning_curves(evidence),
        classification_sections.by_class(evidence),
        classification_sections.by_label(evidence),
        classification_sections.sureness(evidence),
        classification_sections.mistakes(evidence),
        classification_sections.close_calls(evidence),
        regression_sections.residuals(evidence),
        regression_sections.furthest(evidence),
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
        streams.print_labelled("error", str(problem), sys.stderr)
        sys.exit(USER_ERROR)
    sys.exit(DONE)
