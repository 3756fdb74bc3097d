"""`pipeline compare`: compare runs side by side."""

from pipeline.cli_args import named_run, named_values


def compare(arguments: list[str]) -> int:
    """Write a page that compares runs, and print its tables."""
    named = named_values(arguments, {"runs": "", "runs_dir": "runs", "output": ""})
    runs = [named_run(named | {"run": name}, key="runs") for name in named["runs"].split(",") if name]
    from pipeline.reports.compare_runs import write_comparison

    return write_comparison(runs, runs_dir=named["runs_dir"], output=named["output"])
