"""Find and check configuration files, and list the groups and options that they offer."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
# Limits of a user's own file.
MAX_FILE_BYTES = 1_000_000
MAX_DEPTH = 50
MAX_VALUES = 100_000  # with what aliases repeat

Groups = dict[str, dict[str, Path]]
Choice = str | list[str] | None
Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


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
        content = None if path is None else yaml.load(path.read_bytes(), Loader)
    except (OSError, yaml.YAMLError):
        return {}
    return content if isinstance(content, dict) else {}


def check_yaml_files(names: Iterable[str], folders: Sequence[Path], chain: tuple[str, ...] = ()) -> None:
    """Check the files of configurations such as `model/cnn`, and of those in their defaults lists.

    Shipped files need no check; without a folder of the user's own there are no others. Raise ConfigError for a
    file that cannot be used, and for defaults lists that form a cycle.
    """
    if len(folders) == 1:
        return
    for name in names:
        file = find_config(name, folders)
        if file is None:
            continue  # reported elsewhere
        if name in chain:
            raise ConfigError(f"{file}: its defaults list comes back to it: {' -> '.join([*chain, name])}")
        if not file.is_relative_to(shipped_folder()):
            check_yaml_file(file)
        check_yaml_files(_included(name, read_yaml(file)), folders, (*chain, name))


def check_yaml_file(file: Path) -> None:
    """Raise ConfigError for a file that is no text, is too large, or does not hold keys and values."""
    try:
        content = file.read_bytes()
        text = content.decode("utf-8")
    except OSError as problem:
        raise ConfigError(f"{file} cannot be read: {problem.strerror}") from None
    except UnicodeDecodeError as problem:
        line = content[: problem.start].count(b"\n") + 1
        raise ConfigError(
            f"{file}, line {line}: byte {content[problem.start]:#x} is no UTF-8; save it as UTF-8"
        ) from None
    if len(content) > MAX_FILE_BYTES:
        raise ConfigError(f"{file} has {len(content):,} bytes; expected a configuration of {MAX_FILE_BYTES:,} at most")
    try:
        _check_size(yaml.parse(text, Loader), file)
        read = yaml.load(text, Loader)
    except (yaml.YAMLError, RecursionError):
        return  # Hydra's own error names line and column
    _check_keys(read, file)


def _check_keys(read: Any, file: Path) -> None:
    if read is not None and not isinstance(read, Mapping):
        found = "a list" if isinstance(read, list) else f"the value {str(read)[:40]}"
        raise ConfigError(f"{file} holds {found}; expected keys and values, such as\n  _target_: my_package.MyNet")
    defaults = (read or {}).get("defaults", [])
    if not isinstance(defaults, list):
        raise ConfigError(
            f"{file}: defaults is {defaults}; expected a list of configurations, such as [_self_, default]"
        )
    for key in read or {}:
        if not isinstance(key, str):
            raise ConfigError(f"{file}: the key {key} is no text; expected a name, or write it in quotes: '{key}'")


def _check_size(events: Iterable[Any], file: Path) -> None:
    """Raise ConfigError for too many values, before they are built: aliases of aliases can exceed the memory."""
    sizes: dict[str | None, int] = {}  # of the node that an anchor names
    open_nodes: list[list[Any]] = [[None, 0]]  # anchor and size of each mapping and list that is open
    for event in events:
        if isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
            open_nodes.append([event.anchor, 1])
        elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            anchor, size = open_nodes.pop()
            sizes[anchor] = size
            open_nodes[-1][1] += size
        elif isinstance(event, yaml.AliasEvent):
            open_nodes[-1][1] += sizes.get(event.anchor, 1)
        elif isinstance(event, yaml.ScalarEvent):
            open_nodes[-1][1] += 1
        if len(open_nodes) > MAX_DEPTH:
            raise ConfigError(f"{file} is nested more than {MAX_DEPTH} deep; expected keys and values as in conf/")
        if open_nodes[-1][1] > MAX_VALUES:
            raise ConfigError(f"{file} stands for more than {MAX_VALUES:,} values with what its aliases (*name) repeat")


def _included(name: str, content: dict[str, Any]) -> Iterator[str]:
    """Yield the full names of the configurations in a defaults list."""
    group = name.rpartition("/")[0]
    entries = content.get("defaults", [])
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, str) and entry != "_self_":
            yield _absolute(entry.partition("@")[0], group)
        elif isinstance(entry, Mapping):
            for key, options in entry.items():
                place = _absolute(str(key).removeprefix("override ").partition("@")[0], group)
                yield from (f"{place}/{each}" for each in (options if isinstance(options, list) else [options]) if each)


def _absolute(entry: str, group: str) -> str:
    return entry.removeprefix("/") if entry.startswith("/") or not group else f"{group}/{entry}"
