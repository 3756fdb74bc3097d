"""`pipeline train`: compose the configuration and check it, then import the heavy packages and launch the run."""

import gc
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from pipeline import cli_args
from pipeline.config import help_pages, search_path
from pipeline.errors import DONE
from pipeline.tracking.tracking_uri import redact


def train(arguments: list[str]) -> int:
    options = cli_args.train_options(arguments)
    folders = search_path.config_folders(options.config_dir)
    if options.help or options.info:
        show = help_pages.train_page if options.help else help_pages.options_page
        print(show(options.config_name, folders))
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
        gc.freeze()  # what there is now stays until the end: not looked through again and again
        gc.enable()

    from pipeline.lifecycle import launch_run

    return launch_run.launch_training(composed, ["pipeline", "train", *arguments])


def check_run_config(reference: str, runs_dir: str, packages: Sequence[str]) -> None:
    """Check a run before torch is imported, which takes seconds.

    Raises UserError if there is no such run, if the environment would change its results, and if its configuration
    calls code that nobody allowed.
    """
    from pipeline.config.checks.check_config import check_targets
    from pipeline.runs.environment import check_variables
    from pipeline.runs.find_run import find_run

    check_variables(os.environ)
    check_targets(find_run(reference, runs_dir, packages=packages).config())


@contextmanager
def locked_run(reference: str, runs_dir: str, packages: Sequence[str], work: str) -> Iterator[str]:
    """Hold the lock of a run, and give its directory. Raises UserError if there is no such run, or if it is locked."""
    from pipeline.runs.find_run import find_run
    from pipeline.runs.lock import run_lock

    folder = find_run(reference, runs_dir, packages=packages).folder
    with run_lock(folder, work):
        yield str(folder)


def check_run_exists(reference: str, runs_dir: str, packages: Sequence[str] = (), *, key: str = "run") -> None:
    """Raise UserError if there is no such run, before torch is imported."""
    from pipeline.runs.find_run import find_run

    find_run(reference, runs_dir, key=key, packages=packages)
