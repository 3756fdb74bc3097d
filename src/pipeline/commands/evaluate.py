"""The test figures of a run again, from its directory alone."""

from collections.abc import Sequence

import pytorch_lightning as pl
from rich.table import Table

from pipeline import run_files
from pipeline.errors import RunError
from pipeline.lifecycle import exit_codes
from pipeline.lifecycle.build import Assembly
from pipeline.lifecycle.console import console_beside
from pipeline.lifecycle.final_test import Verdict, judge, judged_checkpoint
from pipeline.lifecycle.load_run import reassemble
from pipeline.lifecycle.save_predictions import digest_of_test, keep_assembled, keep_predictions
from pipeline.lifecycle.trainer import build_trainer
from pipeline.reports.report_data import is_judged
from pipeline.runs import run_directory as runs
from pipeline.runs import test_set_uses
from pipeline.runs.run_directory import Run
from pipeline.system.process import SINGLE_PROCESS
from pipeline.tracking.journal import Journal


def evaluate(reference: str, runs_dir: str, data_root: str | None = None, packages: Sequence[str] = ()) -> int:
    """Judge the run's best weights on its test set, in this one process; the exit code.

    `data_root` is where the data lies now, if no longer where the run found it; `packages` may be called besides.
    """
    run = runs.find(reference, runs_dir, packages=packages)
    console = console_beside(run.folder / "evaluate.log")
    return exit_codes.code_of(lambda: console.print(comparison(run, judged(run, data_root))), run.folder)


def judged(run: Run, data_root: str | None) -> Verdict:
    """As `test`; a run of an older version, or one that did not end, is given what a report is made of."""
    assembly, trainer, verdict = _test(run, data_root)
    if not run_files.ASSEMBLED.is_sound(run.folder):
        keep_assembled(run, assembly, trainer)
    if verdict.predictions is not None and not is_judged(run):
        keep_predictions(run, assembly, verdict.predictions)
    digest = digest_of_test(assembly, verdict.predictions)
    if digest is not None and verdict.metrics:
        writer = Journal(run.journal_path)
        test_set_uses.note(run, digest, verdict.weights, writer)  # MLflow hears of it with the next `pipeline sync`
        writer.close()
    return verdict


def test(run: Run, data_root: str | None = None) -> Verdict:
    """Raises RunError for a run without a checkpoint."""
    return _test(run, data_root)[2]


def _test(run: Run, data_root: str | None) -> tuple[Assembly, pl.Trainer, Verdict]:
    if judged_checkpoint(run) is None:
        raise RunError(f"{run.id} has no checkpoint to evaluate; train it first: pipeline resume run={run.id}")
    config, assembly = reassemble(run, data_root)
    trainer: pl.Trainer = build_trainer(
        config, assembly=assembly, callbacks=[], loggers=False, folder=run.folder, here=SINGLE_PROCESS
    )
    return assembly, trainer, judge(trainer, assembly, judged_checkpoint(run))


def comparison(run: Run, verdict: Verdict) -> Table | str:
    """The metrics beside those that the run recorded when it was trained."""
    if not verdict.metrics:
        return f"{run.id} has nothing to test: its module has no test_step that logs, or its data no test_dataloader"
    result = run.result()
    recorded = {} if result is None else result["metrics"]
    chosen = "" if verdict.checkpoint is None else f", {verdict.checkpoint.name}"
    table = Table(title=f"{run.id}: test set{chosen}", title_justify="left", show_edge=False)
    table.add_column("metric")
    table.add_column("now", justify="right")
    table.add_column("when trained", justify="right")
    for name, value in sorted(verdict.metrics.items()):
        before = recorded.get(name)
        table.add_row(name, f"{value:.4f}", "" if before is None else f"{before:.4f}")
    return table
