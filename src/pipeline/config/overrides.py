"""Parse `key=value` with Hydra's grammar, and refuse what one run cannot use, with what to type instead."""

import re
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.errors import HydraException

from pipeline.config.search_path import Groups
from pipeline.config.suggestions import did_you_mean, listing, nearest_names
from pipeline.errors import ConfigError

# {ending of a file: (the option that reads it, what else to type after `data.root=`)}.
TABLE = ("table", "data.source.target=COLUMN model=mlp")
TEXT = ("text_table", "data.source.train={name} model=gru")
FOLDERS = {
    **dict.fromkeys((".jpg", ".jpeg", ".png", ".webp", ".bmp"), ("image_folder", "")),
    **dict.fromkeys((".wav", ".flac", ".ogg"), ("audio_folder", "")),
}
FILES = {**dict.fromkeys((".csv", ".tsv", ".parquet"), TABLE), ".jsonl": TEXT}
MAX_FILES_EXAMINED = 2000  # files of a folder


def suggest_data_option(path: Path) -> str | None:
    """Return what to type to train on a path; None if it does not exist, or if no option reads its files."""
    if path.is_file():
        if path.suffix.lower() not in FILES:
            return None
        option, more = FILES[path.suffix.lower()]
        root = path.parent if option == "text_table" else path
        return _line(option, root, more.format(name=path.name))
    if not path.is_dir():
        return None
    endings = Counter(islice(_endings(path), MAX_FILES_EXAMINED))
    known = [each for each, _ in endings.most_common() if each in FOLDERS or each in FILES]
    if not known:
        return None
    if known[0] in FOLDERS:
        return _line(FOLDERS[known[0]][0], path, "")
    file = next(each for each in sorted(path.rglob("*")) if each.suffix.lower() == known[0])
    return suggest_data_option(file)


def _endings(folder: Path) -> Iterator[str]:
    return (path.suffix.lower() for path in folder.rglob("*") if path.is_file())


def _line(option: str, root: Path, more: str) -> str:
    return " ".join(each for each in (f"data={option}", shlex.quote(f"data.root={root}"), more) if each)


LIST_KEYS = (
    "callbacks",
    "regularizer",
    "experiment",
    "remedy",
    "loggers",
    "allow_packages",
)  # top-level keys that are lists
BRACKETS = {"[": "]", "{": "}", "(": ")"}


def parse_overrides(texts: Sequence[str]) -> list[Override]:
    """Return the parsed overrides. Raise ConfigError for a text that is no override, and for several values."""
    parser = OverridesParser.create()
    return [parse_override(text, parser) for text in texts]


def parse_override(text: str, parser: OverridesParser) -> Override:
    try:
        override = parser.parse_override(text)
    except HydraException as problem:
        raise ConfigError(_syntax(text, problem)) from None
    key = override.key_or_group
    if not key:
        raise ConfigError(f"{text} names no key; expected key=value, such as seed=1")
    if override.is_hydra_override():
        raise ConfigError(
            f"{text}: Hydra's own settings have no effect here\n"
            "  runs go to  runs_dir=PATH ; more folders with options come from  --config-dir PATH"
        )
    if override.is_sweep_override():
        raise ConfigError(_several_values(override, text))
    return override


def check_choices(overrides: Sequence[Override], groups: Groups) -> None:
    """Raise ConfigError for a group or an option that does not exist."""
    for override in overrides:
        key = override.key_or_group
        if key in groups:
            _check_choice(override, groups)
        elif "/" in key or override.package is not None:
            raise ConfigError(
                f"there is no group {key}{did_you_mean(nearest_names(key, groups))}{listing('all groups', groups)}"
            )


def _check_choice(override: Override, groups: Groups) -> None:
    group, value = override.key_or_group, override.value()
    options = list(groups[group])
    if override.is_delete() and value in (None, ""):
        return
    if override.is_force_add():
        raise ConfigError(f"{override.input_line}: an option is chosen with one or no plus sign: {group}={value}")
    if value is None:
        raise ConfigError(f"{override.input_line}: to leave a group out, write ~{group}")
    if isinstance(value, dict):
        raise ConfigError(
            f"{override.input_line}: {group} is a group; choose one of its options, {group}={options[0]}, "
            f"and set its keys one by one, {group}.KEY=VALUE{listing(f'all options of {group}', options)}"
        )
    for choice in value if isinstance(value, list) else [value]:
        if not isinstance(choice, str) or not _exists(group, choice, groups):
            raise unknown_option(group, str(choice), groups)


def _exists(group: str, option: str, groups: Groups) -> bool:
    folder, _, name = f"{group}/{option.removesuffix('.yaml')}".rpartition("/")
    return name in groups.get(folder, {})


def unknown_option(group: str, option: str, groups: Groups) -> ConfigError:
    options = groups.get(group, {})
    own = suggest_data_option(Path(option).expanduser()) if group == "data" else None
    if own is not None:
        return ConfigError(f"data={option} is a path, and no option\n  to train on it  {own}")
    suggestions = [f"{group}={name}" for name in nearest_names(option, options)]
    return ConfigError(
        f"{group}={option} does not exist{did_you_mean(suggestions)}{listing(f'all options of {group}', options)}"
    )


def quote_override(text: str) -> str:
    """Return `key=value` quoted so that the shell and the grammar leave the value as it is."""
    key, _, value = text.partition("=")
    return shlex.quote(f"{key}={QuotedString(value, Quote.double).with_quotes()}")


def _several_values(override: Override, text: str) -> str:
    key, _, values = text.partition("=")
    if not override.is_choice_sweep() or "(" in values:
        return (
            f"{text} stands for several values, and one run takes one, such as {key}=VALUE\n"
            f"  to train with each  pipeline search {shlex.quote(text)}"
        )
    remedies = [f"to train with each  pipeline search {shlex.quote(text)}"]
    if "." in key or key in LIST_KEYS:
        remedies.append(f"a list is written  '{key}=[{values}]'")
    if "." in key:
        remedies.append(f"a text with commas  {quote_override(text)}")
    return "\n  ".join([f"{text} is several values, and one run takes one", *remedies])


def _syntax(text: str, problem: HydraException) -> str:
    """Return a message that shows where the syntax error is, and what to type instead."""
    key, equals, value = text.partition("=")
    if not equals and not text.startswith("~"):
        return f"{text} is no override; expected key=value, such as seed=1"
    position = _position(text, problem)
    shown = f"cannot read {text}" if position is None else f"cannot read this override\n  {text}\n  {' ' * position}^"
    if position is not None and position <= len(key):
        return f"{shown}\n  a key is made of names and dots: model.widths=[16,32]"
    quote = f"\n  a value with special characters is quoted twice:  {quote_override(text)}"
    return f"{shown}{_unclosed(value) or quote}"


def _unclosed(value: str) -> str:
    for opening, closing in BRACKETS.items():
        if value.count(opening) > value.count(closing):
            return f"\n  {opening} is not closed by {closing}"
    for mark in "'\"":
        if value.count(mark) % 2:
            return f"\n  the quotation mark {mark} is not closed"
    return ""


def _position(text: str, problem: HydraException) -> int | None:
    """Return the position of the syntax error, from 0; None if the grammar does not report it."""
    cause = problem.__cause__  # ANTLR's: the lexer tells an index, the parser a token
    token = getattr(cause, "offendingToken", None)
    index = getattr(cause, "startIndex", None)
    if index is not None:
        return int(index)
    if token is not None:
        return min(int(token.column), len(text))
    found = re.search(r"extraneous input '(.+?)' expecting", str(problem))
    return None if found is None else text.find(found.group(1), text.find("=") + 1)
