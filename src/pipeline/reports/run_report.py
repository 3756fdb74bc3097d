"""`report.html`: one run on one page, made from its directory alone."""

import sys
from pathlib import Path

from pipeline.errors import DONE, USER_ERROR, UserError
from pipeline.reports import classification_sections, regression_sections, sections
from pipeline.reports.html import element, page
from pipeline.reports.report_data import ReportData, load_report_data
from pipeline.runs.run_directory import Run
from pipeline.system import streams
from pipeline.system.files import file_lock, write_atomically

REPORT_FILE = "report.html"
LOCK = ".report.lock"
LOCK_TIMEOUT_SECONDS = 10.0


def write_run_report(run: Run, status: str | None = None) -> Path:
    """Raises RunError for a run that has not started.

    The run itself and the process that shows how far it has come may both want to: whoever is last has read last.
    """
    path = run.folder / REPORT_FILE
    with file_lock(run.folder / LOCK, timeout_seconds=LOCK_TIMEOUT_SECONDS):
        write_atomically(path, render_run_report(load_report_data(run, status)))
    return path


def render_run_report(evidence: ReportData) -> str:
    return page(
        str(evidence.start["name"]),
        sections.header_section(evidence),
        sections.headline_section(evidence),
        sections.learning_curve_section(evidence),
        classification_sections.class_section(evidence),
        classification_sections.label_section(evidence),
        classification_sections.calibration_section(evidence),
        classification_sections.mistake_section(evidence),
        classification_sections.low_margin_section(evidence),
        regression_sections.residual_section(evidence),
        regression_sections.largest_error_section(evidence),
        sections.timing_section(evidence),
        sections.settings_section(evidence),
        sections.command_section(evidence),
        sections.environment_section(evidence),
        element("footer", f"{evidence.run.id} · made from the run directory alone"),
    )


if __name__ == "__main__":
    try:
        write_run_report(Run.from_arguments(sys.argv[1:]))
    except UserError as problem:
        streams.print_labelled("error", str(problem), sys.stderr)
        sys.exit(USER_ERROR)
    sys.exit(DONE)
