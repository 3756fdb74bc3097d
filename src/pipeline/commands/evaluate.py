"""`pipeline evaluate`: evaluate a run on its test set again."""

from pipeline.cli_args import run_to_evaluate


def evaluate(arguments: list[str]) -> int:
    """Evaluate the best weights on the test set and print the metrics beside the recorded ones."""
    with run_to_evaluate(arguments, "evaluated") as (run, data_root):
        from pipeline.lifecycle.evaluate_run import evaluate_run

        return evaluate_run(run, data_root)
