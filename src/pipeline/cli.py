"""The command line: the table of verbs, their dispatch, and an exit code for each kind of error.

Exit codes: 0 done, 1 failed, 2 a user's mistake, 130 Ctrl-C. A verb's module is imported when the verb is called, and
imports what is heavy after it has checked its arguments.
"""

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NamedTuple

from pipeline.config.help_pages import verbs_page
from pipeline.config.suggestions import did_you_mean, listing, nearest_names
from pipeline.errors import DONE, FAILED, INTERRUPTED, USER_ERROR, ConfigError, TrainingFailed, UserError
from pipeline.system.process import (
    add_working_directory_to_path,
    check_working_directory,
    drop_empty_launcher_variables,
    drop_rank_variables,
    ignore_warnings_as_errors,
)
from pipeline.system.streams import broken_pipe_safe_output, print_labelled
from pipeline.tracking.tracking_uri import redact


class Verb(NamedTuple):
    """A verb of the command line.

    summary, usage  what `pipeline help` prints
    function        the module of this package and its function that takes the arguments and returns the exit code
    """

    summary: str
    usage: str
    function: str


VERBS = {
    "train": Verb(
        "train a network, evaluate it on the test set, track it", "pipeline train --help", "commands.train.train"
    ),
    "search": Verb(
        "search for the best values of some keys, with Optuna",
        "pipeline search KEY=VALUE,VALUE ... [name=NAME]; pipeline search list | show [NAME] | dashboard [NAME]",
        "search.start.run_search_command",
    ),
    "evaluate": Verb(
        "evaluate a run on its test set again, from its directory alone",
        "pipeline evaluate [run=latest] [runs_dir=runs] [data.root=FOLDER] [allow_packages=[PACKAGE]]",
        "commands.evaluate.evaluate",
    ),
    "diagnose": Verb(
        "find what is wrong with a run, with the evidence and what to try next",
        "pipeline diagnose [run=latest] [runs_dir=runs] [data.root=FOLDER] [allow_packages=[PACKAGE]]",
        "commands.diagnose.diagnose",
    ),
    "report": Verb(
        "write the HTML report of a run again",
        "pipeline report [run=latest] [runs_dir=runs]",
        "commands.report.report",
    ),
    "compare": Verb(
        "compare runs: which is better, and whether the difference is significant",
        "pipeline compare runs=RUN,RUN[,...] [runs_dir=runs] [output=FILE.html]",
        "commands.compare.compare",
    ),
    "resume": Verb(
        "continue a run from its newest checkpoint",
        "pipeline resume [run=latest] [trainer.max_epochs=20] ...",
        "commands.train.resume",
    ),
    "runs": Verb(
        "list the runs, or show one of them",
        "pipeline runs [show RUN] [last=30] [runs_dir=runs]",
        "commands.runs.list_or_show",
    ),
    "logs": Verb(
        "print the metrics and logs of a run", "pipeline logs [RUN] [--follow] [runs_dir=runs]", "commands.runs.logs"
    ),
    "cancel": Verb(
        "ask a run to save a checkpoint and stop", "pipeline cancel [RUN] [runs_dir=runs]", "commands.runs.cancel"
    ),
    "ui": Verb(
        "open MLflow's pages on this machine, at the right run",
        "pipeline ui [run=latest] [runs_dir=runs] [port=5000]",
        "commands.ui.ui",
    ),
    "sync": Verb(
        "send to MLflow what has not arrived there",
        "pipeline sync [run=latest | --all] [upgrade=true] [runs_dir=runs] [tracking.uri=ADDRESS]",
        "commands.sync.sync",
    ),
    "register": Verb(
        "register a run's model in MLflow; the best version becomes the champion",
        "pipeline register [run=latest] name=NAME [force=true] [runs_dir=runs] [tracking.uri=ADDRESS]",
        "commands.register.register",
    ),
    "chaos": Verb(
        "kill a training again and again, and compare it with an undisturbed one",
        "pipeline chaos [kills=50] [chaos_seed=0] [runs_dir=runs] [KEY=VALUE of train] ...",
        "commands.chaos.chaos",
    ),
    "new-data": Verb(
        "write a data source of your own to start from: a class, its YAML and its test",
        "pipeline new-data name=NAME kind=image|audio|table|text [package=my_package]",
        "commands.scaffold.project.new_data",
    ),
    "new-model": Verb(
        "write a network of your own to start from: a class, its YAML and its test",
        "pipeline new-model name=NAME [package=my_package]",
        "commands.scaffold.project.new_model",
    ),
    "completion": Verb(
        "complete verbs, options and keys in the shell",
        "pipeline completion install [bash | zsh]   (or print the script:  pipeline completion bash)",
        "cli.complete",
    ),
    "version": Verb("print the version of this program", "pipeline version", "cli.print_version"),
    "help": Verb("print this list, or how a verb is used", "pipeline help [VERB]", "cli.print_help"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code. A user's mistake prints one message and no traceback."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    with broken_pipe_safe_output():
        try:
            ignore_warnings_as_errors()
            drop_empty_launcher_variables()
            check_working_directory()
            add_working_directory_to_path()
            if "PIPELINE_MAKE_ARGUMENTS" in os.environ:
                from pipeline.config.make_arguments import decode_make_arguments

                words += decode_make_arguments(os.environ)
            return dispatch(words)
        except UserError as mistake:
            print_labelled("error", redact(str(mistake)), sys.stderr)
            return USER_ERROR
        except TrainingFailed as failure:
            print_labelled("failed", redact(str(failure)), sys.stderr)
            return FAILED
        except KeyboardInterrupt:
            return INTERRUPTED


def dispatch(words: list[str]) -> int:
    """Call the verb with its arguments and return its exit code. Raise ConfigError for an unknown verb."""
    if not words or words[0] in ("-h", "--help"):
        return print_help([])
    verb, *arguments = words
    if verb in ("-V", "--version"):
        return print_version(arguments)
    if verb not in VERBS:
        suggestions = [f"pipeline {name}" for name in nearest_names(verb, VERBS)]
        raise ConfigError(f"there is no verb {verb}{did_you_mean(suggestions)}{listing('all verbs', VERBS)}")
    if verb != "train" and any(word in ("-h", "--help") for word in arguments):
        return print_help([verb])
    if verb not in ("train", "resume"):  # which a launcher may start as one process of several
        drop_rank_variables()
    return _call(verb, arguments)


def _call(verb: str, arguments: list[str]) -> int:
    module, _, function = VERBS[verb].function.rpartition(".")
    code: int = getattr(import_module(f"pipeline.{module}"), function)(arguments)
    return code


def complete(arguments: list[str]) -> int:
    """Print completions for the shell, or install the script that asks for them."""
    from pipeline.config.completion import completion_output

    print(completion_output(arguments, list(VERBS), usage=VERBS["completion"].usage), end="")
    return DONE


def print_version(arguments: list[str]) -> int:
    """Print the version of the installed package."""
    import importlib.metadata

    print(f"pipeline {importlib.metadata.version('pipeline')}")
    return DONE


def print_help(arguments: list[str]) -> int:
    """Print the list of verbs, or how one verb is used."""
    if arguments == ["train"]:
        return _call("train", ["--help"])
    if arguments and arguments[0] in VERBS:
        verb = VERBS[arguments[0]]
        print(f"{verb.summary}\n\nusage: {verb.usage}")
        return DONE
    print(verbs_page({name: verb.summary for name, verb in VERBS.items()}))
    return DONE
