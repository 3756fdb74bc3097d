"""Print and write the findings about a run, each with its evidence and a command to try next."""

from rich.console import Console
from rich.text import Text

from pipeline.data.datamodule import DataModule
from pipeline.diagnosis import render
from pipeline.diagnosis.checks import run_checks
from pipeline.diagnosis.examine import collect_inputs
from pipeline.diagnosis.finding import Finding
from pipeline.diagnosis.inputs import DiagnosisInputs
from pipeline.lifecycle import exit_codes
from pipeline.lifecycle.build import Components
from pipeline.lifecycle.console import open_console
from pipeline.lifecycle.summaries import relative_to_working_directory
from pipeline.reports.report_data import load_report_data
from pipeline.runs.run_directory import Run
from pipeline.system.files import write_atomically

NAME = "diagnosis.md"
PICTURES = "suspicious.html"


def diagnose_run(run: Run, data_root: str | None = None) -> int:
    """Examine a run that has ended and print the findings. Return the exit code, 0 whatever is found.

    `data_root` is where the data is now, if it is no longer where the run read it.
    """
    console = open_console(run.folder / "diagnose.log")
    return exit_codes.run_to_exit_code(lambda: _diagnose(run, console, data_root), run.folder)


def _diagnose(run: Run, console: Console, data_root: str | None) -> None:
    inputs, components = collect_inputs(run, load_report_data(run), data_root)
    found, unchecked = run_checks(inputs), unchecked_in(inputs)
    rows = [(finding, _samples(finding, inputs, components)) for finding in found]
    write_atomically(run.folder / NAME, render.diagnosis_markdown(run, rows, unchecked))
    console.print(Text(f"{run.id}: {render.diagnosis_heading(found, unchecked)}"), soft_wrap=True)
    for finding, samples in rows:
        console.print(render.render_finding(run, finding, samples), soft_wrap=True)
    console.print(Text(f"\nwritten to  {relative_to_working_directory(run.folder / NAME)}"), soft_wrap=True)
    if (page := _pictures(run, found, inputs, components)) is not None:
        console.print(Text(f"images      {page}"), soft_wrap=True)


def unchecked_in(inputs: DiagnosisInputs) -> list[str]:
    """Return what could not be examined, and why."""
    if not inputs.kind:
        return ["all that needs the samples, because their kind of task or a module of your own hides them"]
    unchecked = [] if inputs.network is not None else ["what needs a checkpoint, because there is none"]
    return (
        unchecked if inputs.is_classification else [*unchecked, "what concerns classes, because numbers are predicted"]
    )


def _samples(finding: Finding, inputs: DiagnosisInputs, components: Components) -> render.Samples:
    if not finding.suspects:
        return []
    assert isinstance(components.data, DataModule)
    return render.describe_suspects(finding.suspects, components.data.splits, inputs.class_names)


def _pictures(run: Run, found: list[Finding], inputs: DiagnosisInputs, components: Components) -> str | None:
    """Write a page with the suspicious samples if they are images, and return its path."""
    suspects = next((finding.suspects for finding in found if finding.suspects), ())
    if not suspects or inputs.kind != "image":
        return None
    assert isinstance(components.data, DataModule)
    content = render.suspects_page(run.id, suspects, components.data.splits, inputs.class_names)
    write_atomically(run.folder / PICTURES, content)
    return relative_to_working_directory(run.folder / PICTURES)
