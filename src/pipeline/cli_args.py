"""Parse what was typed after a verb, and find the run that it names."""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

from pipeline.config import search_path
from pipeline.config.checks.addresses import check_store_address
from pipeline.config.checks.texts import check_not_empty
from pipeline.config.completion import FLAGS
from pipeline.config.search_path import ALLOW_PACKAGES
from pipeline.config.suggestions import did_you_mean, listing, nearest_names
from pipeline.config.target_allowlist import allowed_packages
from pipeline.errors import ConfigError

if TYPE_CHECKING:  # a run reads configurations, which takes a tenth of a second
    from pipeline.runs.run_directory import Run


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}\n  all options of train: {', '.join(FLAGS)}")


def train_options(arguments: list[str]) -> argparse.Namespace:
    """Return the options and overrides of `pipeline train`. Raise ConfigError for an unknown option."""
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
        suggestions = nearest_names(unknown[0], FLAGS)
        raise ConfigError(
            f"{unknown[0]} is no option of train{did_you_mean(suggestions)}{listing('all options', FLAGS)}"
        )
    return options


def named_values(arguments: Sequence[str], defaults: Mapping[str, str]) -> dict[str, str]:
    """Return the values of key=value arguments over their defaults. Raise ConfigError for any other argument."""
    named = dict(defaults)
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not equals or key not in defaults:
            suggestions = [f"{name}=" for name in nearest_names(key.lstrip("-"), defaults)]
            raise ConfigError(
                f"{argument} means nothing here{did_you_mean(suggestions)}"
                f"{listing('expected', [f'{name}=VALUE' for name in defaults])}"
            )
        default = defaults[key]
        check_not_empty(key, value, without=f"leave it out{f', it is {default} then' if default else ''}")
        if key == "tracking.uri":
            check_store_address(key, value)
        named[key] = value
    return named


def named_values_after_first(arguments: Sequence[str], defaults: Mapping[str, str]) -> dict[str, str]:
    """Return `named_values`; a plain first word is the value of the first key: `logs RUN` for `logs run=RUN`."""
    words = list(arguments)
    if words and "=" not in words[0] and not words[0].startswith("-"):
        words[0] = f"{next(iter(defaults))}={words[0]}"
    return named_values(words, defaults)


def values_and_overrides(arguments: list[str], defaults: dict[str, str]) -> tuple[dict[str, str], list[str]]:
    """Divide arguments into the verb's own key=value pairs and the overrides of a training."""
    overrides = [word for word in arguments if word.partition("=")[0] not in defaults]
    return named_values([word for word in arguments if word not in overrides], defaults), overrides


def whole_number(named: dict[str, str], key: str, *, example: str) -> int:
    """Return a value as an int. Raise ConfigError for anything but digits."""
    if not named[key].isdecimal():
        raise ConfigError(f"{key}={named[key]}: expected a number, such as {key}={example}")
    return int(named[key])


def port_number(named: dict[str, str], *, example: str) -> int:
    """Return `port` as an int. Raise ConfigError for a number that is no port."""
    number = whole_number(named, "port", example=example)
    if not 0 < number < 65536:
        raise ConfigError(f"port={number}: expected 1 to 65535, such as port={example}")
    return number


def number_or_all(named: dict[str, str], key: str, *, example: str) -> int | None:
    """Return a value as a positive int, None for `all`. Raise ConfigError for anything else."""
    if named[key] == "all":
        return None
    if not named[key].isdecimal() or int(named[key]) == 0:
        raise ConfigError(f"{key}={named[key]}: expected how many, such as {key}={example}, or {key}=all")
    return int(named[key])


def boolean(named: dict[str, str], key: str) -> bool:
    """Return a value as a bool. Raise ConfigError for anything but true and false."""
    if named[key] not in ("true", "false"):
        raise ConfigError(f"{key}={named[key]}: expected {key}=true or {key}=false")
    return named[key] == "true"


def typed_packages(named: dict[str, str]) -> list[str]:
    """Return the packages whose code may be called: the project's, and those typed as `allow_packages`."""
    text = named[ALLOW_PACKAGES]
    names = [name.strip() for name in text.removeprefix("[").removesuffix("]").split(",")] if text else []
    return list(dict.fromkeys([*search_path.project_packages(), *allowed_packages({ALLOW_PACKAGES: names})]))


def named_run(named: Mapping[str, str], packages: Sequence[str] = (), *, key: str = "run") -> "Run":
    """Return the run that `run` and `runs_dir` name. Raise UserError, which names it by `key`, if there is none."""
    from pipeline.runs.find_run import find_run

    return find_run(named["run"], named["runs_dir"], key=key, packages=packages)


@contextmanager
def locked_run(named: Mapping[str, str], packages: Sequence[str], work: str) -> Iterator["Run"]:
    """Yield the named run, in whose directory no other process writes meanwhile.

    `work` says what is done with the run, such as "evaluated". Raise UserError if another process writes there.
    """
    from pipeline.runs.lock import run_lock

    run = named_run(named, packages)
    with run_lock(run.folder, work):
        yield run


@contextmanager
def run_to_evaluate(arguments: list[str], work: str) -> Iterator[tuple["Run", str | None]]:
    """Yield the locked run of a verb that loads its model, and where its data is now (None: where it was).

    Raise UserError for an environment variable that would change the metrics, and for a class that is not allowed:
    before torch is imported, which takes seconds.
    """
    named = named_values(arguments, {"run": "latest", "runs_dir": "runs", "data.root": "", ALLOW_PACKAGES: ""})
    with locked_run(named, typed_packages(named), work) as run:
        check_run(run)
        yield run, named["data.root"] or None


def check_run(run: "Run") -> None:
    """Raise UserError for an environment variable that would change a run's metrics, or a class that is not allowed."""
    import os

    from pipeline.config.checks.check_config import check_targets
    from pipeline.runs.environment import check_variables

    check_variables(os.environ)
    check_targets(run.config())
