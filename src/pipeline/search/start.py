"""`pipeline search`: begin a search, go on with it, or look at one."""

import gc
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from omegaconf import OmegaConf

from pipeline.cli_args import named_values_after_first, port_number, typed_packages
from pipeline.config import compose, search_path
from pipeline.config.checks.check_config import check_config
from pipeline.config.checks.texts import check_not_empty, check_run_name
from pipeline.config.completion import SEARCH_SUBCOMMANDS
from pipeline.config.frozen import TrustPolicy
from pipeline.config.suggestions import did_you_mean, nearest_names
from pipeline.errors import ConfigError
from pipeline.runs.environment import check_variables, ignored_variables
from pipeline.search import arguments, recipe
from pipeline.search import plan as plans
from pipeline.search.arguments import OF_THE_SEARCH
from pipeline.search.directory import LATEST, PORT, find
from pipeline.search.plan import CHANGEABLE, Plan, check_settings, check_storage
from pipeline.system.files import write_atomically


def search(typed: Sequence[str]) -> int:
    """Its exit code. Raises UserError for whatever can be found wrong before the first trial."""
    if typed and "=" not in typed[0] and not typed[0].startswith(("~", "-")):  # no override
        return _look(typed)
    check_variables(os.environ)
    while True:
        gc.disable()  # as for `train`: many small objects and hardly a cycle among them
        try:
            plan, folder = _plan(typed)
        finally:
            gc.enable()
        recipe.check_place(plan.settings.save_as)
        # Which import optuna: only for what has been found right.
        from pipeline.search import job_array, session
        from pipeline.search.directory import led

        with led(folder):
            if plan.found != plans.texts_in(folder):
                continue  # another command began it or changed it since it was read
            for sentence in ignored_variables(os.environ, plan.config.tracking, [*plan.fixed, *typed]):
                print(f"note: {sentence}", file=sys.stderr)
            begin = session.sit if plan.config.launch._target_ == plans.LOCAL else job_array.submit
            return begin(plan, folder)


def _look(typed: Sequence[str]) -> int:
    if typed[0] not in SEARCH_SUBCOMMANDS:
        meant = [f"pipeline search {each}" for each in nearest_names(typed[0], SEARCH_SUBCOMMANDS)]
        raise ConfigError(
            f"{typed[0]} is no KEY=VALUE, and not one of {', '.join(SEARCH_SUBCOMMANDS)}{did_you_mean(meant)}"
        )
    named = named_values_after_first(list(typed[1:]), {"name": LATEST, "runs_dir": "runs", "port": PORT})
    port_number(named, example=PORT)
    find(named["name"], named["runs_dir"])
    from pipeline.search import show  # which imports optuna

    return show.run(typed)


def _plan(typed: Sequence[str]) -> tuple[Plan, Path]:
    named = dict(word.split("=", 1) for word in typed if "=" in word)
    for key in OF_THE_SEARCH:
        check_not_empty(key, named.get(key, "?"), without="leave it out")
    runs_dir, name, database = named.get("runs_dir", "runs"), named.get("name"), named.get("search.storage")
    place = Path(runs_dir).absolute() / plans.SEARCHES
    if name is not None and database is not None and not (place / name / plans.CONFIG).exists():
        check_run_name(name)
        _take_over(database, place / name)
    if name is not None and (place / name / plans.CONFIG).exists():
        return _continued(typed, place / name), place / name
    plan = plans.make(typed)
    if name is None:
        name = f"{plan.config.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    check_run_name(name)
    return plan, Path(plan.config.runs_dir).absolute() / plans.SEARCHES / name


def _take_over(database: str, folder: Path) -> None:
    """Take part in a search that another machine began, if the database has one of this name."""
    check_storage(database)
    from pipeline.search import study
    from pipeline.search.directory import led

    texts = study.find(database, folder)
    if texts is None:
        return
    with led(folder):
        if not (folder / plans.CONFIG).exists():
            for name, text in texts.items():
                write_atomically(folder / name, text)


def _continued(typed: Sequence[str], folder: Path) -> Plan:
    """The search in this folder, with what may be changed of it as typed. Raises ConfigError for anything else."""
    trust = TrustPolicy(tuple(typed_packages({search_path.ALLOW_PACKAGES: _typed_packages(typed)})))
    plan = plans.load(folder, trust)
    launch = [word for word in typed if arguments.is_about_launching(word)]
    if launch or not plan.trust.applies_to(folder):  # another's launcher would run commands of theirs
        plan.config.launch = compose.compose([*plan.fixed, *launch], config_name=plans.PRIMARY).config.launch
    for word in typed:
        key, _, value = word.partition("=")
        if key in (*OF_THE_SEARCH, search_path.ALLOW_PACKAGES) or word in launch:
            continue
        setting = key.removeprefix("search.")
        is_elsewhere = key == "search.storage" and plan.settings.storage is not None  # the database as seen from here
        if is_elsewhere or (key.startswith("search.") and setting in CHANGEABLE):
            compose.set_value(plan.config, key, value)
            continue
        if word in plan.fixed or _is_as_before(plan, key, value):
            continue
        raise ConfigError(
            f"{word}: the search {folder.name} has begun without it. Of a search that goes on may be "
            f"changed: {', '.join(f'search.{each}' for each in CHANGEABLE)}; for another one choose another name="
        )
    check_config(plan.config, plans.load(folder, trust).config)
    check_settings(plan.settings)
    return plan


def _typed_packages(typed: Sequence[str]) -> str:
    return next((word.partition("=")[2] for word in typed if word.startswith(f"{search_path.ALLOW_PACKAGES}=")), "")


def _is_as_before(plan: Plan, key: str, value: str) -> bool:
    known = OmegaConf.select(plan.config, key) if not key.startswith(("search/", "~", "+")) else None
    return plan.settings.space.get(key) == value or (known is not None and str(known) == value)
