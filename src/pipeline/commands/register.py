"""`pipeline register`: register a run's model in MLflow."""

from pipeline.cli_args import boolean, locked_run, named_values, typed_packages
from pipeline.config.search_path import ALLOW_PACKAGES


def register(arguments: list[str]) -> int:
    """Register a run's model under a name; the best version of the name becomes its champion."""
    defaults = {"run": "latest", "name": "", "force": "false", "runs_dir": "runs", "tracking.uri": ""}
    named = named_values(arguments, {**defaults, ALLOW_PACKAGES: ""})
    force = boolean(named, "force")
    with locked_run(named, typed_packages(named), "registered") as run:
        from pipeline.lifecycle.register_run import register_run

        return register_run(run, named["name"], force=force, typed=named)
