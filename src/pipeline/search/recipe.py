"""The best configuration of a search as it is typed, and as a file for `conf/experiment`."""

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


def command_of(plan: Plan, params: Mapping[str, Any]) -> list[str]:
    return ["pipeline", "train", *plan.fixed, *plan.space.overrides(params)]


def recipe_of(plan: Plan, params: Mapping[str, Any], remarks: tuple[str, ...] = ()) -> str:
    """YAML that says the same as the command."""
    config, choices = plan.config_of(params), plan.composed(params).choices
    defaults: dict[str, str] = {}
    values: Any = OmegaConf.create({})
    more: list[str] = []
    for override in parse_overrides(command_of(plan, params)[2:]):
        key = override.key_or_group
        # A file can only add to what the defaults bring, and does not say itself whose code it may call.
        if override.is_delete() or key == search_path.ALLOW_PACKAGES:
            more.append(str(override.input_line))
        elif key == "experiment":
            defaults[key] = str(choices[key])
        elif key in search_path.option_groups(search_path.config_folders()):
            defaults[key] = f"override /{key}: {_flow(choices[key])}"
        else:
            OmegaConf.update(values, key, raw_value(config, key), force_add=True)
    lines = ["# @package _global_", *(f"# {remark}" for remark in remarks)]
    if more:
        lines.append(f"# To be typed as well: {' '.join(more)}")
    if defaults:
        lines += ["defaults:", *(f"  - {line}" for line in defaults.values())]
    return "\n".join(lines) + "\n" + (OmegaConf.to_yaml(values) if values else "")


def check_place(name: str | None) -> None:
    """Raises ConfigError where saving it under this name would overwrite what no search wrote."""
    path = None if name is None else place_of(name)
    if path is not None and path.exists() and MARK not in path.read_text(encoding="utf-8"):
        raise ConfigError(
            f"search.save_as={name}: {path} is there already, and no search wrote it; choose another name, such as "
            f"search.save_as=best_{name}"
        )


def save(plan: Plan, params: Mapping[str, Any], remark: str, search: str) -> Path | None:
    """As `search.save_as` says; None where that is null."""
    name = plan.settings.save_as
    if name is None:
        return None
    path = place_of(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, recipe_of(plan, params, (MARK.removeprefix("# ") + f"name={search}: {remark}",)))
    return path


def place_of(name: str) -> Path:
    return Path("conf", "experiment", f"{name}.yaml")


def _flow(choice: Any) -> str:
    return f"[{', '.join(map(str, choice))}]" if isinstance(choice, list | tuple) else str(choice)
