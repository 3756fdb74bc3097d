"""Check that the user's own files can be read, before Hydra reads them with less helpful errors."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from pipeline.config import search_path
from pipeline.errors import ConfigError

MAX_FILE_BYTES = 1_000_000
MAX_DEPTH = 50
MAX_VALUES = 100_000  # with what aliases repeat

Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def check_yaml_files(names: Iterable[str], folders: Sequence[Path], chain: tuple[str, ...] = ()) -> None:
    """Check the files of configurations such as `model/cnn`, and of those in their defaults lists.

    Shipped files need no check; without a folder of the user's own there are no others. Raise ConfigError for a
    file that cannot be used, and for defaults lists that form a cycle.
    """
    if len(folders) == 1:
        return
    for name in names:
        file = search_path.find_config(name, folders)
        if file is None:
            continue  # reported elsewhere
        if name in chain:
            raise ConfigError(f"{file}: its defaults list comes back to it: {' -> '.join([*chain, name])}")
        if not file.is_relative_to(search_path.shipped_folder()):
            check_yaml_file(file)
        check_yaml_files(_included(name, search_path.read_yaml(file)), folders, (*chain, name))


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
