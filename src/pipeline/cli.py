"""The command line: verbs to functions, errors to one message and an exit code.

0 done, 1 a failure, 2 a user's mistake, 130 Ctrl-C. Whatever is heavy is imported by the verb that needs it.
"""

import os
import sys
from collections.abc import Sequence

from pipeline import cli_args
from pipeline.commands.scaffold import project
from pipeline.commands.train import check_run_config, check_run_exists, locked_run, train
from pipeline.config import completion as completions
from pipeline.config import help_pages
from pipeline.config.help_pages import Verb
from pipeline.config.search_path import ALLOW_PACKAGES
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


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code."""
    with broken_pipe_safe_output():
        return _main(arguments)


def _main(arguments: Sequence[str] | None) -> int:
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        ignore_warnings_as_errors()
        drop_empty_launcher_variables()
        check_working_directory()
        add_working_directory_to_path()
        if "PIPELINE_MAKE_ARGUMENTS" in os.environ:
            from pipeline.config.make_arguments import decode_make_arguments

            given += decode_make_arguments(os.environ)
        return run(given)
    except UserError as mistake:
        print_labelled("error", redact(str(mistake)), sys.stderr)
        return USER_ERROR
    except TrainingFailed as failure:
        print_labelled("failed", redact(str(failure)), sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED


def run(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        return overview([])
    verb, *rest = arguments
    if verb in ("-V", "--version"):
        return version(rest)
    if verb not in VERBS:
        suggestions = [f"pipeline {name}" for name in nearest_names(verb, VERBS)]
        raise ConfigError(f"there is no verb {verb}{did_you_mean(suggestions)}{listing('all verbs', VERBS)}")
    if verb != "train" and any(word in ("-h", "--help") for word in rest):
        return overview([verb])
    if verb not in ("train", "resume"):  # which a launcher may start as one process of several
        drop_rank_variables()
    return VERBS[verb].run(rest)


def evaluate(arguments: list[str]) -> int:
    reference, runs_dir, data_root, packages = cli_args.run_and_data(arguments)
    with locked_run(reference, runs_dir, packages, "evaluated") as run:
        check_run_config(run, runs_dir, packages)
        from pipeline.commands import evaluate as lifecycle

        return lifecycle.evaluate(run, runs_dir, data_root, packages)


def diagnose(arguments: list[str]) -> int:
    reference, runs_dir, data_root, packages = cli_args.run_and_data(arguments)
    with locked_run(reference, runs_dir, packages, "diagnosed") as run:
        check_run_config(run, runs_dir, packages)
        from pipeline.commands import diagnose as lifecycle

        return lifecycle.diagnose(run, runs_dir, data_root, packages)


def report_on(arguments: list[str]) -> int:
    named = cli_args.named_values(arguments, {"run": "latest", "runs_dir": "runs"})
    check_run_exists(named["run"], named["runs_dir"])
    from pipeline.commands import report as lifecycle

    return lifecycle.remake(**named)


def compare(arguments: list[str]) -> int:
    named = cli_args.named_values(arguments, {"runs": "", "runs_dir": "runs", "output": ""})
    for each in filter(None, named["runs"].split(",")):
        check_run_exists(each, named["runs_dir"], key="runs")
    from pipeline.commands import compare as lifecycle

    return lifecycle.compare(**named)


def resume(arguments: list[str]) -> int:
    named, overrides = cli_args.values_and_overrides(
        arguments, {"run": "latest", "runs_dir": "runs", ALLOW_PACKAGES: ""}
    )
    from pipeline.lifecycle import launch_run

    return launch_run.resume_run(named["run"], overrides, named["runs_dir"], cli_args.typed_packages(named))


def list_runs(arguments: list[str]) -> int:
    from pipeline.commands import runs

    if arguments[:1] == ["show"]:
        return runs.show(*cli_args.run_and_folder(arguments[1:]))
    named = cli_args.named_values(arguments, {"runs_dir": "runs", "last": "30"})
    return runs.list_runs(named["runs_dir"], last=cli_args.number_or_all(named, "last", example="50"))


def logs(arguments: list[str]) -> int:
    named = [word for word in arguments if word not in ("--follow", "-f")]
    from pipeline.commands import runs

    return runs.logs(*cli_args.run_and_folder(named), follow=len(named) < len(arguments))


def cancel(arguments: list[str]) -> int:
    from pipeline.commands import runs

    return runs.cancel(*cli_args.run_and_folder(arguments))


def ui(arguments: list[str]) -> int:
    named = cli_args.named_values(arguments, {"run": "", "runs_dir": "runs", "port": "5000"})
    from pipeline.commands import ui as lifecycle

    return lifecycle.ui(named["runs_dir"], named["run"] or None, cli_args.port_number(named, example="5000"))


def chaos(arguments: list[str]) -> int:
    named, overrides = cli_args.values_and_overrides(arguments, {"kills": "50", "chaos_seed": "0", "runs_dir": "runs"})
    kills, seed = (cli_args.whole_number(named, key, example="50") for key in ("kills", "chaos_seed"))
    from pipeline.commands import chaos as lifecycle

    return lifecycle.chaos(overrides, named["runs_dir"], kills=kills, seed=seed)


def sync(arguments: list[str]) -> int:
    words = ["run=all" if word == "--all" else word for word in arguments]
    defaults = {"run": "latest", "runs_dir": "runs", "upgrade": "false", "tracking.uri": "", "tracking.artifacts": ""}
    named = cli_args.named_values(words, {**defaults, ALLOW_PACKAGES: ""})
    upgrade, packages = cli_args.boolean(named, "upgrade"), cli_args.typed_packages(named)
    if named["run"] != "all":
        check_run_exists(named["run"], named["runs_dir"], packages)
    from pipeline.commands import sync as lifecycle

    is_all = named["run"] == "all"
    return lifecycle.sync(named["run"], is_all, named["runs_dir"], upgrade=upgrade, typed=named, packages=packages)


def register(arguments: list[str]) -> int:
    defaults = {"run": "latest", "name": "", "force": "false", "runs_dir": "runs", "tracking.uri": ""}
    named = cli_args.named_values(arguments, {**defaults, ALLOW_PACKAGES: ""})
    force, packages = cli_args.boolean(named, "force"), cli_args.typed_packages(named)
    with locked_run(named["run"], named["runs_dir"], packages, "registered") as run:
        from pipeline.commands import register as lifecycle

        return lifecycle.register(run, named["name"], named["runs_dir"], force=force, typed=named, packages=packages)


def search(arguments: list[str]) -> int:
    from pipeline.search import start

    return start.run_search_command(arguments)


def completion(arguments: list[str]) -> int:
    print(completions.completion_output(arguments, list(VERBS)), end="")
    return DONE


def version(arguments: list[str]) -> int:
    import importlib.metadata

    print(f"pipeline {importlib.metadata.version('pipeline')}")
    return DONE


def overview(arguments: list[str]) -> int:
    """Of all verbs, or of one."""
    if arguments == ["train"]:
        return train(["--help"])
    if arguments and arguments[0] in VERBS:
        print(VERBS[arguments[0]].described)
        return DONE
    print(help_pages.verbs_page(VERBS))
    return DONE


VERBS = {
    "train": Verb(train, "train a network, judge it on the test set, track it", "pipeline train --help"),
    "search": Verb(
        search,
        "look for the best of several values, with Optuna",
        "pipeline search KEY=VALUE,VALUE ... [name=NAME]; pipeline search list | show [NAME] | dashboard [NAME]",
    ),
    "evaluate": Verb(
        evaluate,
        "the test figures again, from the run directory alone",
        "pipeline evaluate [run=latest] [runs_dir=runs] [data.root=FOLDER] [allow_packages=[PACKAGE]]",
    ),
    "diagnose": Verb(
        diagnose,
        "what is wrong with a run, with the figures that led to it, and what to try next",
        "pipeline diagnose [run=latest] [runs_dir=runs] [data.root=FOLDER] [allow_packages=[PACKAGE]]",
    ),
    "report": Verb(report_on, "a page about a run, from its directory", "pipeline report [run=latest] [runs_dir=runs]"),
    "compare": Verb(
        compare,
        "several runs side by side: which is better, and is that more than chance",
        "pipeline compare runs=RUN,RUN[,...] [runs_dir=runs] [output=FILE.html]",
    ),
    "resume": Verb(
        resume, "go on from the newest checkpoint", "pipeline resume [run=latest] [trainer.max_epochs=20] ..."
    ),
    "runs": Verb(
        list_runs,
        "the runs that there are, or all about one of them",
        "pipeline runs [show RUN] [last=30] [runs_dir=runs]",
    ),
    "logs": Verb(logs, "what a run records and logs", "pipeline logs [RUN] [--follow] [runs_dir=runs]"),
    "cancel": Verb(cancel, "ask a run to save and end", "pipeline cancel [RUN] [runs_dir=runs]"),
    "ui": Verb(
        ui,
        "MLflow's pages on this machine, at the right place",
        "pipeline ui [run=latest] [runs_dir=runs] [port=5000]",
    ),
    "sync": Verb(
        sync,
        "carry to MLflow what did not arrive there",
        "pipeline sync [run=latest | --all] [upgrade=true] [runs_dir=runs] [tracking.uri=ADDRESS]",
    ),
    "register": Verb(
        register,
        "a run's model under a name in MLflow; the best of that name is its champion",
        "pipeline register [run=latest] name=NAME [force=true] [runs_dir=runs] [tracking.uri=ADDRESS]",
    ),
    "chaos": Verb(
        chaos,
        "kill a training again and again, and compare it with one that is left in peace",
        "pipeline chaos [kills=50] [chaos_seed=0] [runs_dir=runs] [KEY=VALUE of train] ...",
    ),
    "new-data": Verb(
        project.new_data,
        "a data source of your own to start from: its class, its YAML and its test, in this folder",
        "pipeline new-data name=NAME kind=image|audio|table|text [package=my_package]",
    ),
    "new-model": Verb(
        project.new_model,
        "the same for a network of your own",
        "pipeline new-model name=NAME [package=my_package]",
    ),
    "completion": Verb(completion, "completion of verbs, options and keys in the shell", completions.USAGE),
    "version": Verb(version, "the version of this program", "pipeline version"),
    "help": Verb(overview, "this list, or how a verb is used", "pipeline help [VERB]"),
}
