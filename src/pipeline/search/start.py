"""`pipeline search`: start a search, resume it, or look at one. Free of Optuna until the arguments are checked."""

import gc
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from omegaconf import OmegaConf

from pipeline.cli_args import named_values, named_values_after_first, port_number, typed_packages
from pipeline.config import compose, search_path
from pipeline.config.checks.check_config import check_config
from pipeline.config.checks.texts import check_not_empty, check_run_name
from pipeline.config.frozen import TrustPolicy
from pipeline.config.suggestions import did_you_mean, nearest_names
from pipeline.errors import ConfigError
from pipeline.runs.environment import check_variables, ignored_variables
from pipeline.search import recipe
from pipeline.search.plan import (
    CHANGEABLE,
    CONFIG_FILE,
    LOCAL_LAUNCHER,
    PRIMARY_CONFIG,
    SEARCHES_FOLDER,
    Plan,
    check_search_settings,
    check_storage_address,
    create_plan,
    load_plan,
    read_plan_texts,
)
from pipeline.search.searches import LATEST, find_search
from pipeline.search.sweeps import LOCATION_KEYS, is_launch_setting
from pipeline.system.files import write_atomically

DASHBOARD_PORT = "8080"
SUBCOMMANDS = {  # {name: its arguments and their defaults}
    "show": {"name": LATEST, "runs_dir": "runs"},
    "list": {"runs_dir": "runs"},
    "dashboard": {"name": LATEST, "runs_dir": "runs", "port": DASHBOARD_PORT},
}


def run_search_command(arguments: Sequence[str]) -> int:
    """Run `pipeline search` and return its exit code. Raises UserError for mistakes, before the first trial."""
    if arguments and "=" not in arguments[0] and not arguments[0].startswith(("~", "-")):  # not an override
        return _run_subcommand(arguments[0], list(arguments[1:]))
    check_variables(os.environ)
    while True:
        gc.disable()  # as for `train`: many small objects, and hardly any cycles
        try:
            plan, folder = _read_plan(arguments)
        finally:
            gc.enable()
        recipe.check_recipe_path(plan.settings.save_as)
        # These import Optuna, which takes a second, so mistakes are reported before.
        from pipeline.search import session
        from pipeline.search.directory import lock_search

        with lock_search(folder):
            if plan.source_texts != read_plan_texts(folder):
                continue  # another command created or changed it since it was read
            for sentence in ignored_variables(os.environ, plan.config.tracking, [*plan.fixed, *arguments]):
                print(f"note: {sentence}", file=sys.stderr)
            is_local = plan.config.launch._target_ == LOCAL_LAUNCHER
            return session.run_search(plan, folder) if is_local else session.submit_job_array(plan, folder)


def _run_subcommand(name: str, arguments: list[str]) -> int:
    if name not in SUBCOMMANDS:
        suggestions = [f"pipeline search {known}" for known in nearest_names(name, SUBCOMMANDS)]
        raise ConfigError(f"{name} is no KEY=VALUE, and not one of {', '.join(SUBCOMMANDS)}{did_you_mean(suggestions)}")
    defaults = SUBCOMMANDS[name]
    values = (named_values_after_first if "name" in defaults else named_values)(arguments, defaults)
    if "port" in defaults:
        port_number(values, example=DASHBOARD_PORT)
    folder = find_search(values.get("name", LATEST), values["runs_dir"])
    from pipeline.search import show  # which imports Optuna

    if name == "list":
        return show.list_searches(values["runs_dir"])
    return show.serve_dashboard(folder, int(values["port"])) if name == "dashboard" else show.show_search(folder)


def _read_plan(arguments: Sequence[str]) -> tuple[Plan, Path]:
    """Return the plan of a new or resumed search, and its directory."""
    values = dict(text.split("=", 1) for text in arguments if "=" in text)
    for key in LOCATION_KEYS:
        check_not_empty(key, values.get(key, "?"), without="leave it out")
    runs_dir, name, database = values.get("runs_dir", "runs"), values.get("name"), values.get("search.storage")
    if name is not None:
        folder = Path(runs_dir).absolute() / SEARCHES_FOLDER / name
        if database is not None and not (folder / CONFIG_FILE).exists():
            check_run_name(name)
            _copy_plan_from_database(database, folder)
        if (folder / CONFIG_FILE).exists():
            return _resumed_plan(arguments, folder), folder
    plan = create_plan(arguments)
    if name is None:
        name = f"{plan.config.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    check_run_name(name)
    return plan, Path(plan.config.runs_dir).absolute() / SEARCHES_FOLDER / name


def _copy_plan_from_database(database: str, folder: Path) -> None:
    """Write the plan of a search that another machine started, if the database has one of this name."""
    check_storage_address(database)
    from pipeline.search.directory import lock_search
    from pipeline.search.study import find_plan_texts

    texts = find_plan_texts(database, folder)
    if texts is None:
        return
    with lock_search(folder):
        if not (folder / CONFIG_FILE).exists():
            for name, text in texts.items():
                write_atomically(folder / name, text)


def _resumed_plan(arguments: Sequence[str], folder: Path) -> Plan:
    """Return the plan in this folder, with the settings that may change. Raises ConfigError for any other change."""
    prefix = f"{search_path.ALLOW_PACKAGES}="
    packages = next((text.removeprefix(prefix) for text in arguments if text.startswith(prefix)), "")
    trust = TrustPolicy(tuple(typed_packages({search_path.ALLOW_PACKAGES: packages})))
    plan = load_plan(folder, trust)
    launch = [text for text in arguments if is_launch_setting(text)]
    if launch or not plan.trust.applies_to(folder):  # the launcher of another user would run their commands
        plan.config.launch = compose.compose([*plan.fixed, *launch], config_name=PRIMARY_CONFIG).config.launch
    for text in arguments:
        key, _, value = text.partition("=")
        if key in (*LOCATION_KEYS, search_path.ALLOW_PACKAGES) or text in launch:
            continue
        is_own_address = key == "search.storage" and plan.settings.storage is not None  # of the same database
        if is_own_address or (key.startswith("search.") and key.removeprefix("search.") in CHANGEABLE):
            compose.set_value(plan.config, key, value)
        elif text not in plan.fixed and not _is_unchanged(plan, key, value):
            raise ConfigError(
                f"{text}: the search {folder.name} has begun without it. A search that goes on can change only "
                f"{', '.join(f'search.{setting}' for setting in CHANGEABLE)}; for another one choose another name="
            )
    check_config(plan.config, load_plan(folder, trust).config)
    check_search_settings(plan.settings)
    return plan


def _is_unchanged(plan: Plan, key: str, value: str) -> bool:
    current = OmegaConf.select(plan.config, key) if not key.startswith(("search/", "~", "+")) else None
    return plan.settings.space.get(key) == value or (current is not None and str(current) == value)
