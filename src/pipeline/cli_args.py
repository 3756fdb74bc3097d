"""What was typed after a verb."""

import argparse
from typing import NoReturn

from pipeline.config import completion as completions
from pipeline.config import search_path
from pipeline.config.checks.addresses import check_store_address
from pipeline.config.checks.texts import check_not_empty
from pipeline.config.search_path import ALLOW_PACKAGES
from pipeline.config.suggestions import did_you_mean, listing, nearest_names
from pipeline.config.target_allowlist import allowed_packages
from pipeline.errors import ConfigError


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}\n  all options of train: {', '.join(completions.FLAGS)}")


def train_options(arguments: list[str]) -> argparse.Namespace:
    parser = _Parser(add_help=False, allow_abbrev=False)
    parser.add_argument("--help", "-h", action="store_true")
    parser.add_argument("--info", action="store_true")
    parser.add_argument("--cfg", "-c", choices=["job"])
    parser.add_argument("--resolve", action="store_true")
    parser.add_argument("--config-dir", "-cd", action="append", default=[])
    parser.add_argument("--config-name", "-cn", default=search_path.PRIMARY)
    parser.add_argument("overrides", nargs="*", default=[])
    options, unknown = parser.parse_known_intermixed_args(arguments)
    if unknown:
        suggestions = nearest_names(unknown[0], completions.FLAGS)
        raise ConfigError(
            f"{unknown[0]} is no option of train{did_you_mean(suggestions)}{listing('all options', completions.FLAGS)}"
        )
    return options


def named_values(arguments: list[str], defaults: dict[str, str]) -> dict[str, str]:
    """key=value arguments of a verb that composes nothing. Raises ConfigError for any other."""
    named = dict(defaults)
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not equals or key not in defaults:
            suggestions = [f"{name}=" for name in nearest_names(key.lstrip("-"), defaults)]
            raise ConfigError(
                f"{argument} means nothing here{did_you_mean(suggestions)}"
                f"{listing('expected', [f'{name}=VALUE' for name in defaults])}"
            )
        check_not_empty(
            key, value, without=f"leave it out{f', it is {default} then' if (default := defaults[key]) else ''}"
        )
        if key == "tracking.uri":
            check_store_address(key, value)
        named[key] = value
    return named


def values_and_overrides(arguments: list[str], defaults: dict[str, str]) -> tuple[dict[str, str], list[str]]:
    """The key=value arguments of a verb's own, and all others: settings of a training."""
    overrides = [word for word in arguments if word.partition("=")[0] not in defaults]
    return named_values([word for word in arguments if word not in overrides], defaults), overrides


def whole_number(named: dict[str, str], key: str, *, example: str) -> int:
    if not named[key].isdecimal():
        raise ConfigError(f"{key}={named[key]}: expected a number, such as {key}={example}")
    return int(named[key])


def port_number(named: dict[str, str], *, example: str) -> int:
    number = whole_number(named, "port", example=example)
    if not 0 < number < 65536:
        raise ConfigError(f"port={number}: expected 1 to 65535, such as port={example}")
    return number


def number_or_all(named: dict[str, str], key: str, *, example: str) -> int | None:
    """None for all."""
    if named[key] == "all":
        return None
    if not named[key].isdecimal() or int(named[key]) == 0:
        raise ConfigError(f"{key}={named[key]}: expected how many, such as {key}={example}, or {key}=all")
    return int(named[key])


def boolean(named: dict[str, str], key: str) -> bool:
    if named[key] not in ("true", "false"):
        raise ConfigError(f"{key}={named[key]}: expected {key}=true or {key}=false")
    return named[key] == "true"


def run_and_folder(arguments: list[str]) -> tuple[str, str]:
    """(run, runs_dir); the run may stand by itself, `logs X` for `logs run=X`."""
    named = named_values_after_first(arguments, {"run": "latest", "runs_dir": "runs"})
    return named["run"], named["runs_dir"]


def run_and_data(arguments: list[str]) -> tuple[str, str, str | None, list[str]]:
    """(run, runs_dir, data.root, packages), data.root None where the data is left where the run found it."""
    named = named_values(arguments, {"run": "latest", "runs_dir": "runs", "data.root": "", ALLOW_PACKAGES: ""})
    return named["run"], named["runs_dir"], named["data.root"] or None, typed_packages(named)


def typed_packages(named: dict[str, str]) -> list[str]:
    """Those whose code may be called besides. Raises ConfigError."""
    text = named[ALLOW_PACKAGES]
    listed = [name.strip() for name in text.removeprefix("[").removesuffix("]").split(",")] if text else []
    return list(dict.fromkeys([*search_path.project_packages(), *allowed_packages({ALLOW_PACKAGES: listed})]))


def named_values_after_first(arguments: list[str], defaults: dict[str, str]) -> dict[str, str]:
    """Like `named_values`; a first word without `=` is the value of the first key."""
    alone = bool(arguments) and "=" not in arguments[0] and not arguments[0].startswith("-")
    return named_values([f"{next(iter(defaults))}={arguments[0]}", *arguments[1:]] if alone else arguments, defaults)
