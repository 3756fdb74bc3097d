"""`pipeline diagnose`: find what is wrong with a run."""

from pipeline.cli_args import run_to_evaluate


def diagnose(arguments: list[str]) -> int:
    """Print the findings about a run, and write them to its directory."""
    with run_to_evaluate(arguments, "diagnosed") as (run, data_root):
        from pipeline.diagnosis.diagnose_run import diagnose_run

        return diagnose_run(run, data_root)
