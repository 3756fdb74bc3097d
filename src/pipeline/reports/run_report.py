"""Write `report.html`, one page about one run, from its directory alone."""

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
    """Write the report and return its path; raise RunError for a run that has not started.

    The run and its live report process may write at the same time: the lock lets the last writer read last.
    """
    path = run.folder / REPORT_FILE
    with file_lock(run.folder / LOCK, timeout_seconds=LOCK_TIMEOUT_SECONDS):
        write_atomically(path, render_run_report(load_report_data(run, status)))
    return path


def render_run_report(report: ReportData) -> str:
    return page(
        str(report.start["name"]),
        sections.header_section(report),
        sections.headline_section(report),
        sections.learning_curve_section(report),
        classification_sections.class_section(report),
        classification_sections.label_section(report),
        classification_sections.calibration_section(report),
        classification_sections.mistake_section(report),
        classification_sections.low_margin_section(report),
        regression_sections.residual_section(report),
        regression_sections.largest_error_section(report),
        sections.timing_section(report),
        sections.settings_section(report),
        sections.command_section(report),
        sections.environment_section(report),
        element("footer", f"{report.run.id} · made from the run directory alone"),
    )


if __name__ == "__main__":
    try:
        write_run_report(Run.from_arguments(sys.argv[1:]))
    except UserError as problem:
        streams.print_labelled("error", str(problem), sys.stderr)
        sys.exit(USER_ERROR)
    sys.exit(DONE)
