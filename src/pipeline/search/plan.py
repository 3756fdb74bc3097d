"""The plan of a search: the space, the objectives, and what all trials have in common. Free of torch."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from pipeline import metrics, run_files
from pipeline.config import compose, frozen, search_path
from pipeline.config.apply_overrides import apply_overrides
from pipeline.config.checks.addresses import check_secrets, check_store_address
from pipeline.config.checks.check_config import check_config
from pipeline.config.checks.missing_and_unread_keys import check_required_values, check_unread_keys
from pipeline.config.checks.texts import check_run_name
from pipeline.config.compose import Composed
from pipeline.config.frozen import TrustPolicy
from pipeline.config.interpolations import raw_value
from pipeline.config.overrides import parse_overrides
from pipeline.config.suggestions import did_you_mean, listing, nearest_names
from pipeline.config.target_allowlist import target_nodes
from pipeline.durations import parse_duration
from pipeline.errors import ConfigError, RunError
from pipeline.lifecycle.preflight import check_data_files
from pipeline.run_files import RunFile
from pipeline.search.space import Choices, Params, SearchSpace, Value
from pipeline.search.sweeps import (
    LOCATION_KEYS,
    SEARCH_NODE,
    build_space,
    is_launch_setting,
    is_search_setting,
    key_of,
    parse_mapping,
    split_overrides,
)
from pipeline.system import seal
from pipeline.system.files import write_atomically
from pipeline.system.json_shape import Nullable

PRIMARY_CONFIG = "search"
LOCAL_LAUNCHER = "pipeline.launch.local.Local"  # its workers are processes of the search itself
SEARCHES_FOLDER = "searches"  # all searches, below runs_dir
SEARCH_CONFIG = RunFile(
    run_files.CONFIG.name,
    "without it nobody knows what this search is",
    "put back a copy, such as the one among its files in MLflow",
    {
        "name": str,
        "tracking": {"uri": Nullable(str), "artifacts": Nullable(str)},
        "launch": {"_target_": str},
        "search": {},
    },
)
CONFIG_FILE, OVERRIDES_FILE = SEARCH_CONFIG.name, run_files.OVERRIDES.name

FREE_FORM_SETTINGS = ("space", "when", "objectives", "constraints")  # their keys are the user's
# Settings that may change when a search is resumed; any other would make it another search.
CHANGEABLE = ("n_trials", "workers", "timeout", "max_failures", "final_seeds", "save_as")
MINIMUM = {"n_trials": 1, "workers": 1, "max_failures": 0, "final_seeds": 0}
BOUNDS = ("min", "max")
SPLITS = ("train", "validation", "test")
DIRECTIONS: dict[metrics.Mode, str] = {"min": "minimize", "max": "maximize"}
PARAMETER_COUNT = "parameters"  # an objective that is known before training
BUILT_IN_PACKAGES = ("pipeline.", "pytorch_lightning.", "kornia.")


@dataclass(frozen=True)
class Plan:
    """What a search does.

    config  of `pipeline search`: that of a training, and the settings of the search under `search`
    fixed  the overrides that all trials have in common
    source_texts  the files that it was read from; empty for a new one
    """

    config: DictConfig
    fixed: list[str]
    space: SearchSpace
    trust: TrustPolicy = field(default_factory=lambda: TrustPolicy(sealed=seal.SEARCH_FILES))
    source_texts: dict[str, str] = field(default_factory=dict)
    _composed: dict[tuple[str, ...], Composed] = field(default_factory=dict, repr=False)

    @property
    def settings(self) -> DictConfig:
        settings: DictConfig = self.config.search
        return settings

    @property
    def objectives(self) -> dict[str, str]:
        """{metric: maximize or minimize}."""
        return {str(name): str(direction) for name, direction in self.settings.objectives.items()}

    @property
    def constraints(self) -> dict[str, dict[str, float]]:
        """{metric: {min: ..., max: ...}}."""
        constraints: dict[str, dict[str, float]] = _plain(self.settings.constraints)
        return constraints

    @property
    def metric_names(self) -> set[str]:
        """The metrics of objectives and constraints."""
        return {*self.objectives, *self.constraints}

    @property
    def scored_splits(self) -> list[str]:
        """The splits that each finished trial is also evaluated on (search.judged); older searches have none."""
        return list(self.settings.get("judged", []))

    @property
    def repeats(self) -> str | None:
        """The key whose values repeat a configuration instead of changing it, such as the fold or the seed."""
        key: str | None = OmegaConf.select(self.settings, "repeats")
        return key

    @property
    def fixed_options(self) -> dict[str, str]:
        """{group: option} of the groups that no trial changes; conditions may depend on them."""
        choices = self.compose_options({}).choices
        return {group: choice for group, choice in choices.items() if isinstance(choice, str)}

    def compose_options(self, params: Params) -> Composed:
        """Compose the configuration with the options that `params` choose, without their other values; cached."""
        texts = self.space.texts(params)
        chosen = tuple(f"{group}={text}" for group, text in texts.items() if group in self._groups)
        if chosen not in self._composed:
            self._composed[chosen] = compose.compose([*self.fixed, *chosen])
        return self._composed[chosen]

    def trial_config(self, params: Params) -> DictConfig:
        """Return what `pipeline train` composes from the same overrides. Raises ConfigError as it does."""
        config = self.compose_options(params).unresolved.copy()
        values = [text for text in self.space.overrides(params) if text.partition("=")[0] not in self._groups]
        apply_overrides(config, parse_overrides(values), {})
        return compose.resolve_interpolations(config)

    def default_params(self) -> dict[str, Value]:
        """Return the values that the dimensions have without a search; the first one where the default is not among
        those searched."""
        return self.space.suggest(_Preferred(self._default_values()), self.fixed_options)

    def keys_without_default(self) -> list[str]:
        """Return the keys whose default is not among the values searched."""
        defaults, params = self._default_values(), self.default_params()
        return [key for key, value in params.items() if key not in defaults or defaults[key] != value]

    def format_scores(self, values: Sequence[float]) -> str:
        """Return `val/accuracy 0.9861, parameters 7850.0000` for a trial's values of the objectives."""
        return ", ".join(f"{name} {value:.4f}" for name, value in zip(self.objectives, values, strict=True))

    def check(self) -> None:
        """Compose and check each option of each group and each end of each interval, as `train` does.

        Raises ConfigError with the values that cannot be trained.
        """
        for params in self._params_to_check():
            try:
                config, composed = self.trial_config(params), self.compose_options(params)
                check_unread_keys(composed)
                check_config(config, composed.shipped)
                check_required_values(config, composed.choices, composed.folders)
                check_data_files(config)
            except ConfigError as problem:
                values = " ".join(self.space.overrides(params))
                raise ConfigError(
                    f"a trial with {values} could not be trained:\n  {problem}{self._hint(problem)}"
                ) from None
            check_metric_names(self.settings, config)

    def to_texts(self) -> dict[str, str]:
        """Return {file: its content}, from which `load_plan` makes the same plan."""
        return {
            CONFIG_FILE: compose.to_yaml(self.config),
            OVERRIDES_FILE: "".join(f"{override}\n" for override in self.fixed),
        }

    def save(self, folder: Path) -> None:
        """Write the plan. A directory of another user is not sealed as one's own."""
        is_own = not (folder / CONFIG_FILE).exists() or self.trust.applies_to(folder)
        for name, text in self.to_texts().items():
            write_atomically(folder / name, text)
        if is_own:
            seal.set_seal(folder, seal.SEARCH_FILES)

    @cached_property
    def _groups(self) -> frozenset[str]:
        return frozenset(search_path.option_groups(search_path.config_folders()))

    def _default_values(self) -> dict[str, Value]:
        """Return {key: its default} for the defaults that are in the space."""
        composed, defaults = self.compose_options({}), {}
        for key, dimension in self.space.dimensions.items():
            value = composed.choices.get(key, _plain(OmegaConf.select(composed.config, key)))
            if isinstance(dimension, Choices) and isinstance(value, list):
                value = next((label for label in dimension.labels if _is_same_list(label, value)), None)
            if dimension.contains(value):
                defaults[key] = value
        return defaults

    def _params_to_check(self) -> list[dict[str, Value]]:
        defaults = self._default_values()
        params = [self.default_params()]
        for key, dimension in self.space.dimensions.items():
            values = dimension.labels if isinstance(dimension, Choices) else dimension.ends()
            condition = self._params_satisfying_condition(key)
            for value in values:
                preferred = _Preferred({**defaults, **condition, key: value})
                params.append(self.space.suggest(preferred, self.fixed_options))
        return [each for index, each in enumerate(params) if each not in params[:index]]

    def _params_satisfying_condition(self, key: str) -> dict[str, Value]:
        """Return values of other dimensions under which this one is searched."""
        params: dict[str, Value] = {}
        for other, allowed in self.space.conditions.get(key, {}).items():
            dimension = self.space.dimensions.get(other)
            if isinstance(dimension, Choices):
                params |= self._params_satisfying_condition(other)
                params[other] = next(
                    label for label, text in zip(dimension.labels, dimension.texts, strict=True) if text in allowed
                )
        return params

    def _hint(self, problem: ConfigError) -> str:
        missing = next((key for key in self.space.dimensions if str(problem).startswith(f"{key} does not exist")), None)
        if missing is None:
            return ""
        return f"\n  to search it only where it exists:  'search.when={{{missing}: {{GROUP: OPTION}}}}'"


def create_plan(arguments: Sequence[str]) -> Plan:
    """Return the plan that the command line describes, checked. Raises ConfigError."""
    values, rest = split_overrides(arguments)
    free = {
        key: text
        for text in rest
        if (key := text.partition("=")[0].removeprefix(f"{SEARCH_NODE}.")) in FREE_FORM_SETTINGS
    }
    rest = [text for text in rest if text not in free.values()]
    composed = compose.compose(rest, config_name=PRIMARY_CONFIG)
    check_unread_keys(composed)
    check_config(composed.config, composed.shipped)
    config = composed.config
    with open_dict(config.search):
        for key, text in free.items():
            config.search[key] = parse_mapping(text)
        single_values = {text.partition("=")[0] for text in rest}  # typed, so no longer one of several
        space = {key: text for key, text in _plain(config.search.space).items() if key not in single_values}
        config.search.space = {**space, **values}
    check_search_settings(config.search)
    _check_launcher(config, str(composed.choices.get("launch")))
    fixed = [
        text
        for text in rest
        if not (is_search_setting(text) or is_launch_setting(text) or text.partition("=")[0] in LOCATION_KEYS)
    ]
    fixed_keys = {key_of(text) for text in fixed}
    fixed += [f"{key}={raw_value(config, key)}" for key in config.search.fixed if key not in fixed_keys]
    plan = Plan(config, fixed, _build_space(config))
    _check_repeats(plan)
    if not plan.space.dimensions:
        raise ConfigError(
            "nothing is searched: give a key several values, such as "
            "'optimizer.learning_rate=tag(log,interval(1e-4,1e-1))' or model=mlp,cnn"
        )
    plan.check()
    return plan


def load_plan(folder: Path, trust: TrustPolicy) -> Plan:
    """Return the plan that is saved in a search's directory.

    A plan that another user saved may call only the packages in `trust`. Raises DamagedFileError, and RunError for the
    plan of another version.
    """
    trust, texts = replace(trust, sealed=seal.SEARCH_FILES), read_plan_texts(folder)
    config = frozen.load_trusted_config(folder, trust, SEARCH_CONFIG)
    fixed = texts.get(OVERRIDES_FILE, "").splitlines()
    if not trust.applies_to(folder):
        if "${oc." in "".join(fixed):
            raise ConfigError(
                f"{folder / OVERRIDES_FILE} was written by another user and would read values of this machine; "
                "remove what begins with ${oc. from it"
            )
        fixed = [text for text in fixed if key_of(text) != search_path.ALLOW_PACKAGES]
        fixed += [f"{search_path.ALLOW_PACKAGES}=[{','.join(trust.packages)}]"] if trust.packages else []
    try:
        return Plan(config, fixed, _build_space(config), trust, texts)
    except (ValueError, LookupError, TypeError, AttributeError, OmegaConfBaseException) as problem:
        raise RunError(
            f"{folder} holds no search of this version ({type(problem).__name__}: "
            f"{str(problem).partition(chr(10))[0]}); begin another one with another name="
        ) from problem


def read_plan_texts(folder: Path) -> dict[str, str]:
    """Return {file: its content} of a search's directory as it is now. Raises DamagedFileError."""
    texts = {file.name: file.text(folder) for file in (SEARCH_CONFIG, run_files.OVERRIDES)}
    return {name: text for name, text in texts.items() if text is not None}


@dataclass(frozen=True)
class _Preferred:
    """Suggests the preferred value of a key, else the first or lowest one."""

    values: dict[str, Value]

    def suggest_categorical(self, name: str, choices: Sequence[Value]) -> Value:
        return self.values.get(name, choices[0])

    def suggest_float(self, name: str, low: float, high: float, *, step: float | None, log: bool) -> Any:
        return self.values.get(name, low)

    def suggest_int(self, name: str, low: int, high: int, *, step: int, log: bool) -> Any:
        return self.values.get(name, low)


def _build_space(config: DictConfig) -> SearchSpace:
    options = {group: list(names) for group, names in search_path.option_groups(search_path.config_folders()).items()}
    return build_space(_plain(config.search.space), _plain(config.search["when"]), options)


def _plain(node: Any) -> Any:
    return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node


def _is_same_list(label: Value, value: list[Any]) -> bool:
    return isinstance(label, str) and label.replace(" ", "") == f"[{','.join(map(str, value))}]"


def check_search_settings(settings: DictConfig) -> None:
    """Raise ConfigError for settings with which no search can run."""
    for name, minimum in MINIMUM.items():
        value = settings[name]
        is_every_combination = name == "n_trials" and value is None
        if not is_every_combination and (not isinstance(value, int) or value < minimum):
            raise ConfigError(f"search.{name}={value}: expected {minimum} or more, such as search.{name}={minimum}")
    if settings.timeout is not None:
        parse_duration(settings.timeout, "search.timeout")
    check_storage_address(settings.storage)
    if settings.save_as is not None:
        try:
            check_run_name(settings.save_as)
        except ConfigError as problem:
            raise ConfigError(f"search.save_as: {problem}") from None
    for split in settings.get("judged", []):
        if split not in SPLITS:
            raise ConfigError(f"search.judged: {split} is no split of the data; choose among {', '.join(SPLITS)}")
    _check_constraints(settings.constraints)
    _check_objectives(settings.objectives)


def check_storage_address(address: Any) -> None:
    """Raise ConfigError for anything but a PostgreSQL address without a password, or None."""
    if address is None:
        return
    if not re.match(r"postgresql://[^/]+/\w", str(address)):
        raise ConfigError(
            "search.storage: expected postgresql://USER@HOST/DATABASE, or null for a file in the search's directory"
        )
    check_secrets({"search": {"storage": address}})
    check_store_address("search.storage", str(address))


def _check_objectives(node: Any) -> None:
    objectives: Any = OmegaConf.to_container(node) if node else None
    if not isinstance(objectives, dict) or not objectives:
        raise ConfigError("search.objectives: expected a metric and its direction, such as {val/accuracy: maximize}")
    for metric, direction in objectives.items():
        if direction not in DIRECTIONS.values():
            raise ConfigError(f"search.objectives.{metric}={direction}: expected maximize or minimize")
        known = metrics.known_metric(str(metric).removesuffix("_epoch"))
        if known is not None:
            check_direction(str(metric), direction, known.mode)
        _refuse_test_metric(f"search.objectives.{metric}", str(metric))


def check_direction(metric: str, direction: str, mode: metrics.Mode) -> None:
    """Raise ConfigError where the search would look for the worst value of a metric; `mode` says what is better."""
    if direction != DIRECTIONS[mode]:
        better = "lower" if mode == "min" else "higher"
        raise ConfigError(
            f"search.objectives.{metric}={direction}: it is better when it is {better}; use "
            f"'search.objectives={{{metric}: {DIRECTIONS[mode]}}}'"
        )


def _check_constraints(constraints: Any) -> None:
    for metric, node in (constraints or {}).items():
        key = f"search.constraints.{metric}"
        _refuse_test_metric(key, str(metric))
        bounds: Any = OmegaConf.to_container(node) if OmegaConf.is_config(node) else node
        if not isinstance(bounds, dict) or not bounds or set(bounds) - set(BOUNDS):
            raise ConfigError(f"{key}={bounds}: expected bounds, such as {{max: 100000}} or {{min: 0.9, max: 1}}")
        for bound, value in bounds.items():
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ConfigError(f"{key}.{bound}={value}: expected a number")


def _refuse_test_metric(key: str, metric: str) -> None:
    if metric.startswith("test/"):
        raise ConfigError(f"{key}: a search does not use the test set; use val/{metric[5:]}")


def check_metric_names(settings: DictConfig, config: DictConfig) -> None:
    """Raise ConfigError for a metric that no built-in part logs. A user's own class may log any."""
    nodes: Any = OmegaConf.to_container(config)
    own = nodes["task"].pop("metrics", None) or {}
    nodes["task"].pop("loss", None)
    parts = target_nodes({name: nodes[name] for name in ("model", "task", "callbacks")})
    if not all(str(node["_target_"]).startswith(BUILT_IN_PACKAGES) for _, node in parts):
        return
    validation, training = [*metrics.METRICS, *own], list(metrics.METRICS)
    known = [PARAMETER_COUNT, *(f"val/{name}" for name in validation), *(f"train/{name}" for name in training)]
    for group in ("objectives", "constraints"):
        for metric in settings[group] or {}:
            if str(metric).removesuffix("_epoch") not in known:
                suggestion = did_you_mean(nearest_names(str(metric), known))
                raise ConfigError(
                    f"search.{group}.{metric}: nothing logs this metric{suggestion}"
                    f"{listing('metrics, depending on the task', known[: len(validation) + 1])}"
                )


def _check_launcher(config: DictConfig, name: str) -> None:
    target = str(config.launch._target_)
    if target != LOCAL_LAUNCHER and not hasattr(get_class(target), "run_workers"):
        raise ConfigError(
            f"launch={name} cannot run a search: type launch=local, also within a job of a cluster, or launch=slurm "
            "for an array of jobs"
        )


def _check_repeats(plan: Plan) -> None:
    if plan.repeats is not None and plan.repeats not in plan.space.dimensions:
        raise ConfigError(
            f"search.repeats={plan.repeats}: expected a key that is searched, such as data.fold=0,1,2; searched are "
            f"{', '.join(plan.space.dimensions) or 'none'}"
        )
