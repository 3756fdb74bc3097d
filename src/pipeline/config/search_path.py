"""Find configuration files, and list the groups and options that they offer."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from pipeline.config.target_allowlist import allowed_packages
from pipeline.errors import ConfigError

PRIMARY = "train"
# Recipes: an option of this group sets values all over the configuration; types are not checked against them.
RECIPE_GROUP = "experiment"
ALLOW_PACKAGES = "allow_packages"  # counts only if it is typed, or in the file of that name
MISSING = "???"  # instead of a default: the value must be given

Groups = dict[str, dict[str, Path]]
Choice = str | list[str] | None


def shipped_folder() -> Path:
    """Return `conf` inside the package if a wheel is installed, else that of the checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "conf"
    return installed if installed.is_dir() else package.parents[1] / "conf"


def config_folders(config_dirs: Sequence[str] = ()) -> list[Path]:
    """Return the folders to search for a configuration file; the first that has it wins.

    These are every --config-dir, then `conf` in the working directory, then the shipped folder. Raise ConfigError for
    a folder that does not exist.
    """
    asked = [Path(folder).expanduser().resolve() for folder in config_dirs]
    for folder in asked:
        if not folder.is_dir():
            raise ConfigError(f"--config-dir {folder} is not a folder")
    own = Path("conf").resolve()
    found = [*asked, own, shipped_folder()] if own.is_dir() else [*asked, shipped_folder()]
    return list(dict.fromkeys(found))


def project_packages() -> list[str]:
    """Return the packages in `conf/allow_packages.yaml` of the project. Raise ConfigError if it holds anything else."""
    path = Path("conf", f"{ALLOW_PACKAGES}.yaml")
    if not path.is_file():
        return []
    content = read_yaml(path)
    if set(content) != {ALLOW_PACKAGES}:
        raise ConfigError(f"{path}: expected one line and nothing else, such as  {ALLOW_PACKAGES}: [my_package]")
    return allowed_packages(content)


def find_config(name: str, places: Sequence[Path]) -> Path | None:
    """Return the file of a configuration such as `train` or `model/cnn`; None if there is none."""
    candidates = (place / f"{name.removesuffix('.yaml')}.yaml" for place in places)
    return next((path for path in candidates if path.is_file()), None)


def primary_configs(places: Sequence[Path]) -> list[str]:
    """Return the names that --config-name accepts."""
    names = {path.stem for place in places for path in place.glob("*.yaml") if _is_option(path)}
    return sorted(names - {ALLOW_PACKAGES})


def option_groups(places: Sequence[Path]) -> Groups:
    """Return {"model": {"cnn": its file, ...}, ...}, sorted by name."""
    found: Groups = {}
    for place in reversed(places):  # so that the first folder wins
        for folder, _, names in os.walk(place):
            files = (Path(folder, name) for name in names if _is_option(Path(name)))
            options = {file.stem: file for file in files if file.is_file()}  # not a link to nothing
            if options and Path(folder) != place:
                found.setdefault(Path(folder).relative_to(place).as_posix(), {}).update(options)
    return {group: dict(sorted(found[group].items())) for group in sorted(found)}


def groups_of_config(name: str, places: Sequence[Path]) -> Groups:
    """Return the groups, without those that only another primary configuration has."""
    own, others = default_choices(name, places), (each for each in primary_configs(places) if each != name)
    foreign = {group for other in others for group in default_choices(other, places)} - own.keys()
    return {
        group: options
        for group, options in option_groups(places).items()
        if group in own or not any(group == each or group.startswith(f"{each}/") for each in foreign)
    }


def _is_option(path: Path) -> bool:
    """Return whether a file is an option; one with a leading underscore is only included by others."""
    return path.suffix == ".yaml" and not path.name.startswith(("_", "."))


def first_comment(path: Path) -> str:
    """Return the first comment line at the top of a file; empty if there is none."""
    with path.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if line.startswith("#") and not line.startswith("# @package"):
                return line.lstrip("#").strip()
            if line.strip() and not line.startswith("#"):
                break
    return ""


def default_choices(name: str, places: Sequence[Path]) -> dict[str, Choice]:
    """Return {group: option} of the defaults lists of a configuration and of those it includes."""
    choices: dict[str, Choice] = {}
    for entry in read_config(name, places).get("defaults", []):
        if isinstance(entry, str) and entry != "_self_":
            choices |= default_choices(entry.removeprefix("/"), places)
        elif isinstance(entry, Mapping):
            for group, option in entry.items():
                choices[group.removeprefix("override ").removeprefix("/")] = option
    return choices


def read_config(name: str, places: Sequence[Path]) -> dict[str, Any]:
    """Return the content of the file of a configuration such as `train` or `model/cnn`; see `read_yaml`."""
    return read_yaml(find_config(name, places))


def read_yaml(path: Path | None) -> dict[str, Any]:
    """Return the content of a file; empty if there is none or it cannot be read.

    This is for hints only (completion, help): Hydra reads the files itself and reports what is wrong with them.
    """
    try:
        content = None if path is None else yaml.load(path.read_bytes(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (OSError, yaml.YAMLError):
        return {}
    return content if isinstance(content, dict) else {}
