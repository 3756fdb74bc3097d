"""`pipeline search`: begin a search, go on with it, or look at one."""

import gc
import time
from collections.abc import Sequence
from pathlib import Path

from omegaconf import OmegaConf

from pipeline.config import compose
from pipeline.config.check import check
from pipeline.config.completion import LOOKING
from pipeline.config.names import check_name
from pipeline.config.suggestions import did_you_mean, nearest
from pipeline.errors import ConfigError
from pipeline.search import plan as plans
from pipeline.search.plan import Plan
from pipeline.search.settings import CHANGEABLE, check_settings


def search(typed: Sequence[str]) -> int:
    """Its exit code. Raises UserError for whatever can be found wrong before the first trial."""
    if typed and "=" not in typed[0] and not typed[0].startswith(("~", "-")):  # no override
        return _look(typed)
    gc.disable()  # as for `train`: many small objects and hardly a cycle among them
    try:
        plan, folder = _plan(typed)
    finally:
        gc.enable()
    from pipeline.search import sitting  # which imports optuna: only for what has been found right

    return sitting.sit(plan, folder)


def _look(typed: Sequence[str]) -> int:
    if typed[0] not in LOOKING:
        meant = [f"pipeline search {each}" for each in nearest(typed[0], LOOKING)]
        raise ConfigError(f"{typed[0]} is no KEY=VALUE, and not one of {', '.join(LOOKING)}{did_you_mean(meant)}")
    from pipeline.search import show  # which imports optuna

    return show.run(typed)


def _plan(typed: Sequence[str]) -> tuple[Plan, Path]:
    named = dict(word.split("=", 1) for word in typed if "=" in word)
    runs_dir, name = named.get("runs_dir", "runs"), named.get("name")
    place = Path(runs_dir).absolute() / plans.SEARCHES
    if name is not None and (place / name / plans.CONFIG).exists():
        return _continued(typed, place / name), place / name
    plan = plans.make(typed)
    if name is None:
        name = f"{plan.config.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    check_name(name)
    return plan, Path(plan.config.runs_dir).absolute() / plans.SEARCHES / name


def _continued(typed: Sequence[str], folder: Path) -> Plan:
    """The search in this folder, with what may be changed of it as typed. Raises ConfigError for anything else."""
    plan = plans.load(folder)
    for word in typed:
        key, _, value = word.partition("=")
        if key in plans.OF_THE_SEARCH:
            continue
        setting = key.removeprefix("search.")
        if key.startswith("search.") and setting in CHANGEABLE:
            compose.update(plan.config, key, value)
            continue
        if word in plan.fixed or _is_as_before(plan, key, value):
            continue
        raise ConfigError(
            f"{word}: the search {folder.name} has begun without it. Of a search that goes on may be "
            f"changed: {', '.join(f'search.{each}' for each in CHANGEABLE)}; for another one choose another name="
        )
    check(plan.config, plans.load(folder).config)
    check_settings(plan.settings)
    return plan


def _is_as_before(plan: Plan, key: str, value: str) -> bool:
    known = OmegaConf.select(plan.config, key) if not key.startswith(("search/", "~", "+")) else None
    return plan.settings.space.get(key) == value or (known is not None and str(known) == value)
