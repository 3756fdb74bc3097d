"""`pipeline diagnose`: what is wrong with a run, with the figures that led to it and a command to try next."""

from collections.abc import Sequence

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
from pipeline.runs.find_run import find_run
from pipeline.runs.run_directory import Run
from pipeline.system.files import write_atomically

NAME = "diagnosis.md"
PICTURES = "suspicious.html"


def diagnose(reference: str, runs_dir: str, data_root: str | None = None, packages: Sequence[str] = ()) -> int:
    """Look at a run that has ended; the exit code, 0 whatever is found.

    `data_root` is where the data lies now, if no longer where the run found it; `packages` may be called besides.
    """
    run = find_run(reference, runs_dir, packages=packages)
    console = open_console(run.folder / "diagnose.log")
    return exit_codes.run_to_exit_code(lambda: _tell(run, console, data_root), run.folder)


def _tell(run: Run, console: Console, data_root: str | None) -> None:
    symptoms, assembly = collect_inputs(run, load_report_data(run), data_root)
    found, unseen = run_checks(symptoms), unseen_in(symptoms)
    told = [(each, _samples(each, symptoms, assembly)) for each in found]
    write_atomically(run.folder / NAME, render.diagnosis_markdown(run, told, unseen))
    console.print(Text(f"{run.id}: {render.diagnosis_heading(found, unseen)}"), soft_wrap=True)
    for finding, samples in told:
        console.print(render.render_finding(run, finding, samples), soft_wrap=True)
    console.print(Text(f"\nwritten to  {relative_to_working_directory(run.folder / NAME)}"), soft_wrap=True)
    if (page := _pictures(run, found, symptoms, assembly)) is not None:
        console.print(Text(f"pictures    {page}"), soft_wrap=True)


def unseen_in(symptoms: DiagnosisInputs) -> list[str]:
    """What could not be looked for."""
    if not symptoms.kind:
        return ["all that needs the samples, because their kind of task or a module of your own hides them"]
    unseen = [] if symptoms.network is not None else ["what needs a checkpoint, because there is none"]
    return unseen if symptoms.is_of_classes else [*unseen, "what concerns classes, because numbers are predicted"]


def _samples(finding: Finding, symptoms: DiagnosisInputs, assembly: Components) -> render.Samples:
    if not finding.suspects:
        return []
    assert isinstance(assembly.data, DataModule)
    return render.describe_suspects(finding.suspects, assembly.data.splits, symptoms.class_names)


def _pictures(run: Run, found: list[Finding], symptoms: DiagnosisInputs, assembly: Components) -> str | None:
    """The page of the suspicious ones, where samples are pictures."""
    suspects = next((each.suspects for each in found if each.suspects), ())
    if not suspects or symptoms.kind != "image":
        return None
    assert isinstance(assembly.data, DataModule)
    content = render.suspects_page(run.id, suspects, assembly.data.splits, symptoms.class_names)
    write_atomically(run.folder / PICTURES, content)
    return relative_to_working_directory(run.folder / PICTURES)
