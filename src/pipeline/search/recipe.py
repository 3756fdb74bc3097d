"""The best configuration of a search as a command, and as a recipe: a file for `conf/experiment`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from pipeline.config import search_path
from pipeline.config.interpolations import raw_value
from pipeline.config.overrides import parse_overrides
from pipeline.errors import ConfigError
from pipeline.search.plan import Plan
from pipeline.system.files import write_atomically

MARK = "# Found by  pipeline search "


def trial_command(plan: Plan, params: Mapping[str, Any]) -> list[str]:
    return ["pipeline", "train", *plan.fixed, *plan.space.overrides(params)]


def format_recipe(plan: Plan, params: Mapping[str, Any], remarks: tuple[str, ...] = ()) -> str:
    """Return YAML that composes to the same configuration as the command."""
    config, choices = plan.trial_config(params), plan.compose_options(params).choices
    defaults: dict[str, str] = {}
    values: Any = OmegaConf.create({})
    typed: list[str] = []
    for override in parse_overrides(trial_command(plan, params)[2:]):
        key = override.key_or_group
        # A recipe cannot delete keys of the defaults, nor allow the code of a package.
        if override.is_delete() or key == search_path.ALLOW_PACKAGES:
            typed.append(str(override.input_line))
        elif key == "experiment":
            defaults[key] = str(choices[key])
        elif key in search_path.option_groups(search_path.config_folders()):
            defaults[key] = f"override /{key}: {_format_option(choices[key])}"
        else:
            OmegaConf.update(values, key, raw_value(config, key), force_add=True)
    lines = ["# @package _global_", *(f"# {remark}" for remark in remarks)]
    if typed:
        lines.append(f"# To type as well: {' '.join(typed)}")
    if defaults:
        lines += ["defaults:", *(f"  - {line}" for line in defaults.values())]
    return "\n".join(lines) + "\n" + (OmegaConf.to_yaml(values) if values else "")


def check_recipe_path(name: str | None) -> None:
    """Raise ConfigError where a recipe of this name would overwrite a file that no search wrote."""
    path = None if name is None else recipe_path(name)
    if path is not None and path.exists() and MARK not in path.read_text(encoding="utf-8"):
        raise ConfigError(
            f"search.save_as={name}: {path} exists, and no search wrote it; choose another name, such as "
            f"search.save_as=best_{name}"
        )


def save_recipe(plan: Plan, params: Mapping[str, Any], remark: str, search: str) -> Path | None:
    """Save the recipe under the name `search.save_as`; return its path, or None without a name."""
    name = plan.settings.save_as
    if name is None:
        return None
    path = recipe_path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, format_recipe(plan, params, (MARK.removeprefix("# ") + f"name={search}: {remark}",)))
    return path


def recipe_path(name: str) -> Path:
    return Path("conf", "experiment", f"{name}.yaml")


def _format_option(choice: Any) -> str:
    return f"[{', '.join(map(str, choice))}]" if isinstance(choice, list | tuple) else str(choice)
