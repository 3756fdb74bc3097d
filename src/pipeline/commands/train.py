"""`pipeline train` and `pipeline resume`: compose and check a configuration, then launch a run.

What is heavy is imported after the check.
"""

import gc
import os

from pipeline import cli_args
from pipeline.config import search_path
from pipeline.config.search_path import ALLOW_PACKAGES
from pipeline.errors import DONE
from pipeline.tracking.tracking_uri import redact


def train(arguments: list[str]) -> int:
    """Train a network, evaluate it on the test set and track it."""
    options = cli_args.train_options(arguments)
    folders = search_path.config_folders(options.config_dir)
    if options.help or options.info:
        from pipeline.config.help_pages import options_page, train_page

        print((train_page if options.help else options_page)(options.config_name, folders))
        return DONE

    gc.disable()  # many small objects and hardly a cycle among them: collecting takes a fifth of the time
    try:
        from pipeline.config.compose import compose, to_yaml
        from pipeline.lifecycle.preflight import check_composed
        from pipeline.runs.environment import check_variables

        composed = compose(options.overrides, config_name=options.config_name, config_dirs=options.config_dir)
        if options.cfg is not None:
            print(redact(to_yaml(composed.config if options.resolve else composed.unresolved)), end="")
            return DONE
        check_variables(os.environ)
        check_composed(composed)
    finally:
        gc.freeze()  # objects that exist now stay until the end: no collection needs to look through them
        gc.enable()

    from pipeline.lifecycle.launch_run import launch_training

    return launch_training(composed, ["pipeline", "train", *arguments])


def resume(arguments: list[str]) -> int:
    """Continue a run from its newest checkpoint."""
    defaults = {"run": "latest", "runs_dir": "runs", ALLOW_PACKAGES: ""}
    named, overrides = cli_args.values_and_overrides(arguments, defaults)
    from pipeline.lifecycle.launch_run import resume_run

    return resume_run(named["run"], overrides, named["runs_dir"], cli_args.typed_packages(named))
