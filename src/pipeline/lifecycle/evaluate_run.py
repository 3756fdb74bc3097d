"""Evaluate a run on its test set again, from its directory alone."""

import pytorch_lightning as pl
from rich.table import Table

from pipeline import run_files
from pipeline.errors import RunError
from pipeline.lifecycle import exit_codes
from pipeline.lifecycle.build import Components
from pipeline.lifecycle.console import open_console
from pipeline.lifecycle.final_test import EvaluationResult, checkpoint_to_evaluate, run_test
from pipeline.lifecycle.load_run import load_run
from pipeline.lifecycle.save_predictions import digest_of_test_set, save_component_facts, save_test_predictions
from pipeline.lifecycle.trainer import build_trainer
from pipeline.reports.report_data import has_test_predictions
from pipeline.runs.model_selection import record_test_use
from pipeline.runs.run_directory import Run
from pipeline.system.process import SINGLE_PROCESS
from pipeline.tracking.journal import Journal


def evaluate_run(run: Run, data_root: str | None = None) -> int:
    """Evaluate the run's best weights on its test set in this one process, and return the exit code.

    `data_root` is where the data is now, if it is no longer where the run read it.
    """
    console = open_console(run.folder / "evaluate.log")
    return exit_codes.run_to_exit_code(
        lambda: console.print(comparison_table(run, evaluate_and_record(run, data_root))), run.folder
    )


def evaluate_and_record(run: Run, data_root: str | None) -> EvaluationResult:
    """Test a run, and write what a report needs if the run did not (an older version, or a run that did not end)."""
    components, trainer, test_result = _test(run, data_root)
    if not run_files.ASSEMBLED.is_sound(run.folder):
        save_component_facts(run, components, trainer)
    if test_result.predictions is not None and not has_test_predictions(run):
        save_test_predictions(run, components, test_result.predictions)
    digest = digest_of_test_set(components, test_result.predictions)
    if digest is not None and test_result.metrics:
        writer = Journal(run.journal_path)
        record_test_use(run, digest, test_result.weights, writer)  # sent to MLflow by the next `pipeline sync`
        writer.close()
    return test_result


def test_run(run: Run, data_root: str | None = None) -> EvaluationResult:
    """Test a run's best weights. Raise RunError for a run without a checkpoint."""
    return _test(run, data_root)[2]


def _test(run: Run, data_root: str | None) -> tuple[Components, pl.Trainer, EvaluationResult]:
    if checkpoint_to_evaluate(run) is None:
        raise RunError(f"{run.id} has no checkpoint to evaluate; train it first: pipeline resume run={run.id}")
    config, components = load_run(run, data_root)
    trainer: pl.Trainer = build_trainer(
        config, components=components, callbacks=[], loggers=False, folder=run.folder, rank=SINGLE_PROCESS
    )
    return components, trainer, run_test(trainer, components, checkpoint_to_evaluate(run))


def comparison_table(run: Run, test_result: EvaluationResult) -> Table | str:
    """Return a table of the metrics beside those that the run recorded when it was trained."""
    if not test_result.metrics:
        return f"{run.id} has nothing to test: its module has no test_step that logs, or its data no test_dataloader"
    result = run.result()
    recorded = {} if result is None else result["metrics"]
    chosen = "" if test_result.checkpoint is None else f", {test_result.checkpoint.name}"
    table = Table(title=f"{run.id}: test set{chosen}", title_justify="left", show_edge=False)
    table.add_column("metric")
    table.add_column("now", justify="right")
    table.add_column("when trained", justify="right")
    for name, value in sorted(test_result.metrics.items()):
        before = recorded.get(name)
        table.add_row(name, f"{value:.4f}", "" if before is None else f"{before:.4f}")
    return table
