"""Where configuration files lie, and which groups and options they offer. Only folders and first lines are read."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from pipeline.config.target_allowlist import allowed_packages
from pipeline.errors import ConfigError

PRIMARY = "train"
# Recipes: a choice in this group brings other people's values, which are no defaults to hold values against.
RECIPE_GROUP = "experiment"
ALLOW_PACKAGES = "allow_packages"  # counts where it is typed, and in a file of that name
MISSING = "???"  # instead of a default: the value must be given

Groups = dict[str, dict[str, Path]]
Choice = str | list[str] | None


def shipped_folder() -> Path:
    """`conf` inside the package where a wheel was installed, else that of the checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "conf"
    return installed if installed.is_dir() else package.parents[1] / "conf"


def config_folders(config_dirs: Sequence[str] = ()) -> list[Path]:
    """What is searched for a configuration file, the first that has it wins.

    Every --config-dir, then `conf` in the working directory, then what is shipped.
    Raises ConfigError for a folder that does not exist.
    """
    asked = [Path(folder).expanduser().resolve() for folder in config_dirs]
    for folder in asked:
        if not folder.is_dir():
            raise ConfigError(f"--config-dir {folder} is not a folder")
    own = Path("conf").resolve()
    found = [*asked, own, shipped_folder()] if own.is_dir() else [*asked, shipped_folder()]
    return list(dict.fromkeys(found))


def project_packages() -> list[str]:
    """Those of `conf/allow_packages.yaml` in the working directory. Raises ConfigError if it holds anything else."""
    path = Path("conf", f"{ALLOW_PACKAGES}.yaml")
    if not path.is_file():
        return []
    content = read_yaml(path)
    if set(content) != {ALLOW_PACKAGES}:
        raise ConfigError(f"{path}: expected one line and nothing else, such as  {ALLOW_PACKAGES}: [my_package]")
    return allowed_packages(content)


def find_config(name: str, places: Sequence[Path]) -> Path | None:
    """The file of a configuration such as `train` or `model/cnn`."""
    candidates = (place / f"{name.removesuffix('.yaml')}.yaml" for place in places)
    return next((path for path in candidates if path.is_file()), None)


def primary_configs(places: Sequence[Path]) -> list[str]:
    """What --config-name can name."""
    names = {path.stem for place in places for path in place.glob("*.yaml") if _is_option(path)}
    return sorted(names - {ALLOW_PACKAGES})


def option_groups(places: Sequence[Path]) -> Groups:
    """{"model": {"cnn": its file, ...}, ...}, sorted by name."""
    found: Groups = {}
    for place in reversed(places):  # so that the first place has the last word
        for folder, _, names in os.walk(place):
            files = (Path(folder, name) for name in names if _is_option(Path(name)))
            options = {file.stem: file for file in files if file.is_file()}  # not a link to nothing
            if options and Path(folder) != place:
                found.setdefault(Path(folder).relative_to(place).as_posix(), {}).update(options)
    return {group: dict(sorted(found[group].items())) for group in sorted(found)}


def groups_of_config(name: str, places: Sequence[Path]) -> Groups:
    """Without those that only another primary configuration has."""
    own, others = default_choices(name, places), (each for each in primary_configs(places) if each != name)
    foreign = {group for other in others for group in default_choices(other, places)} - own.keys()
    return {
        group: options
        for group, options in option_groups(places).items()
        if group in own or not any(group == each or group.startswith(f"{each}/") for each in foreign)
    }


def _is_option(path: Path) -> bool:
    """A leading underscore marks what is only there to be included by others."""
    return path.suffix == ".yaml" and not path.name.startswith(("_", "."))


def first_comment(path: Path) -> str:
    """The first line of comment in a file."""
    with path.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if line.startswith("#") and not line.startswith("# @package"):
                return line.lstrip("#").strip()
            if line.strip() and not line.startswith("#"):
                break
    return ""


def default_choices(name: str, places: Sequence[Path]) -> dict[str, Choice]:
    """{group: option} in the defaults list of a configuration and of those it includes."""
    choices: dict[str, Choice] = {}
    for entry in read_config(name, places).get("defaults", []):
        if isinstance(entry, str) and entry != "_self_":
            choices |= default_choices(entry.removeprefix("/"), places)
        elif isinstance(entry, Mapping):
            for group, option in entry.items():
                choices[group.removeprefix("override ").removeprefix("/")] = option
    return choices


def read_config(name: str, places: Sequence[Path]) -> dict[str, Any]:
    """What `read_file` says of the file of a configuration such as `train` or `model/cnn`."""
    return read_yaml(find_config(name, places))


def read_yaml(path: Path | None) -> dict[str, Any]:
    """A file's own content, as it stands; empty where there is none or it cannot be read.

    For hints alone (completion, help): composition reads the files by itself and says what is wrong with them.
    """
    try:
        content = None if path is None else yaml.load(path.read_bytes(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (OSError, yaml.YAMLError):
        return {}
    return content if isinstance(content, dict) else {}
