"""What a search is made of: what its trials have in common, what differs, and how it is looked for. No torch here."""

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
from pipeline.config.checks.required import check_required_values
from pipeline.config.checks.texts import check_run_name
from pipeline.config.checks.unread_keys import check_unread_keys
from pipeline.config.compose import Composed
from pipeline.config.frozen import TrustPolicy
from pipeline.config.interpolations import raw_value
from pipeline.config.overrides import parse_overrides
from pipeline.config.suggestions import did_you_mean, listing, nearest_names
from pipeline.config.target_allowlist import target_nodes
from pipeline.errors import ConfigError, RunError
from pipeline.launch.units import seconds_of
from pipeline.lifecycle.preflight import check_data_files
from pipeline.run_files import RunFile
from pipeline.search import sweeps
from pipeline.search.arguments import OWN, is_about_launching, is_of_the_search, is_own, mapping, sorted_out
from pipeline.search.space import Choices, Picked, Space, Value
from pipeline.system import seal
from pipeline.system.files import write_atomically
from pipeline.system.json_shape import Nullable

LEAST = {"n_trials": 1, "workers": 1, "max_failures": 0, "final_seeds": 0}
# What may be said anew when a search is taken up again; all else would make another one of it.
CHANGEABLE = ("n_trials", "workers", "timeout", "max_failures", "final_seeds", "save_as")
BOUNDS = ("min", "max")
PARTS = ("train", "validation", "test")
DIRECTIONS: dict[metrics.Mode, str] = {"min": "minimize", "max": "maximize"}
COUNTED_ONCE = "parameters"  # known before training
OURS = ("pipeline.", "pytorch_lightning.", "kornia.")


def check_settings(settings: DictConfig) -> None:
    """Raises ConfigError for numbers and times with which there is no search, and for what cannot be looked for."""
    for name, least in LEAST.items():
        value = settings[name]
        is_all = name == "n_trials" and value is None
        if not is_all and (not isinstance(value, int) or value < least):
            raise ConfigError(f"search.{name}={value}: expected {least} or more, such as search.{name}={least}")
    if settings.timeout is not None:
        seconds_of(settings.timeout, "search.timeout")
    check_storage(settings.storage)
    if settings.save_as is not None:
        try:
            check_run_name(settings.save_as)
        except ConfigError as problem:
            raise ConfigError(f"search.save_as: {problem}") from None
    _check_constraints(settings.constraints)
    for part in settings.get("judged", []):
        if part not in PARTS:
            raise ConfigError(f"search.judged: {part} is no part of the data; choose among {', '.join(PARTS)}")
    objectives: Any = OmegaConf.to_container(settings.objectives) if settings.objectives else None
    if not isinstance(objectives, dict) or not objectives:
        raise ConfigError("search.objectives: expected a metric and its direction, such as {val/accuracy: maximize}")
    for metric, direction in objectives.items():
        if direction not in ("maximize", "minimize"):
            raise ConfigError(f"search.objectives.{metric}={direction}: expected maximize or minimize")
        ours = metrics.known_metric(str(metric).removesuffix("_epoch"))
        if ours is not None:
            check_direction(str(metric), direction, ours.mode)
        if str(metric).startswith("test/"):
            raise ConfigError(
                f"search.objectives.{metric}: the test set is not searched on; take val/{str(metric)[5:]}"
            )


def check_direction(metric: str, direction: str, better: metrics.Mode) -> None:
    """Raises ConfigError for a metric whose worst value would be searched for."""
    if direction != DIRECTIONS[better]:
        raise ConfigError(
            f"search.objectives.{metric}={direction}: it is better when it is "
            f"{'lower' if better == 'min' else 'higher'}; use 'search.objectives={{{metric}: {DIRECTIONS[better]}}}'"
        )


def check_storage(address: Any) -> None:
    if address is None:
        return
    if not re.match(r"postgresql://[^/]+/\w", str(address)):
        raise ConfigError(
            "search.storage: expected postgresql://USER@HOST/DATABASE, or null for a file in the search's directory"
        )
    check_secrets({"search": {"storage": address}})
    check_store_address("search.storage", str(address))


def _check_constraints(constraints: Any) -> None:
    for metric, bounds in (constraints or {}).items():
        said = f"search.constraints.{metric}"
        if str(metric).startswith("test/"):
            raise ConfigError(f"{said}: the test set is not searched on; take val/{str(metric)[5:]}")
        plain: Any = OmegaConf.to_container(bounds) if OmegaConf.is_config(bounds) else bounds
        if not isinstance(plain, dict) or not plain or set(plain) - set(BOUNDS):
            raise ConfigError(f"{said}={plain}: expected bounds, such as {{max: 100000}} or {{min: 0.9, max: 1}}")
        for bound, value in plain.items():
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ConfigError(f"{said}.{bound}={value}: expected a number")


def check_metrics(settings: DictConfig, config: DictConfig) -> None:
    """Raises ConfigError for a metric that nothing of ours measures, whatever the data; of others' code who knows?"""
    nodes: Any = OmegaConf.to_container(config)
    own = nodes["task"].pop("metrics", None) or {}
    nodes["task"].pop("loss", None)
    named = [
        node["_target_"] for _, node in target_nodes({name: nodes[name] for name in ("model", "task", "callbacks")})
    ]
    if not all(str(target).startswith(OURS) for target in named):
        return
    validation, training = [*metrics.METRICS, *own], list(metrics.METRICS)
    known = [COUNTED_ONCE, *(f"val/{name}" for name in validation), *(f"train/{name}" for name in training)]
    for group in ("objectives", "constraints"):
        for metric in settings[group] or {}:
            if str(metric).removesuffix("_epoch") not in known:
                raise ConfigError(
                    f"search.{group}.{metric}: nothing measures that{did_you_mean(nearest_names(str(metric), known))}"
                    f"{listing('what there may be, by the task', known[: len(validation) + 1])}"
                )


PRIMARY = "search"
LOCAL = "pipeline.launch.local.Local"  # whose workers are processes of the search itself
SEARCHES = "searches"  # the folder of them all, below runs_dir
FREE = ("space", "when", "objectives", "constraints")  # whose keys are the user's
OF_A_SEARCH = RunFile(
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
CONFIG, FIXED = OF_A_SEARCH.name, run_files.OVERRIDES.name


@dataclass(frozen=True)
class Plan:
    """config  of `pipeline search`: a training's, and under `search` what is searched and how
    fixed  the overrides that all trials have in common
    found  the texts that it was read from; none of one that is new
    """

    config: DictConfig
    fixed: list[str]
    space: Space
    trust: TrustPolicy = field(default_factory=lambda: TrustPolicy(sealed=seal.SEARCH_FILES))
    found: dict[str, str] = field(default_factory=dict)
    _composed: dict[tuple[str, ...], Composed] = field(default_factory=dict, repr=False)

    @property
    def settings(self) -> DictConfig:
        found: DictConfig = self.config.search
        return found

    @property
    def objectives(self) -> dict[str, str]:
        """{metric: maximize or minimize}"""
        return {str(name): str(direction) for name, direction in self.settings.objectives.items()}

    @property
    def constraints(self) -> dict[str, dict[str, float]]:
        """{metric: {min: ..., max: ...}}"""
        found: dict[str, dict[str, float]] = _plain(self.settings.constraints)
        return found

    @property
    def judged(self) -> list[str]:
        """The parts that each finished trial is judged on besides; of a search begun by an older version none."""
        return list(self.settings.get("judged", []))

    @property
    def repeats(self) -> str | None:
        """The key whose values do not make another configuration, but judge it once more."""
        found: str | None = OmegaConf.select(self.settings, "repeats")
        return found

    @property
    def watched(self) -> set[str]:
        """The metrics that a trial's score is made of."""
        return {*self.objectives, *self.constraints}

    @property
    def settled(self) -> dict[str, str]:
        """The options that no trial changes, for conditions on them."""
        choices = self.composed({}).choices
        return {group: choice for group, choice in choices.items() if isinstance(choice, str)}

    def composed(self, picked: Picked) -> Composed:
        """With the options of these values, but not with the values themselves. Composed once for each."""
        texts = self.space.texts(picked)
        chosen = tuple(f"{group}={text}" for group, text in texts.items() if group in self._groups)
        if chosen not in self._composed:
            self._composed[chosen] = compose.compose([*self.fixed, *chosen])
        return self._composed[chosen]

    def config_of(self, picked: Picked) -> DictConfig:
        """As `pipeline train` composes it from the same overrides. Raises ConfigError as it does."""
        composed = self.composed(picked)
        config = composed.unresolved.copy()
        values = [text for text in self.space.overrides(picked) if text.partition("=")[0] not in self._groups]
        apply_overrides(config, parse_overrides(values), {})
        return compose.resolve_interpolations(config)

    def default(self) -> dict[str, Value]:
        """Of each dimension the value that it has without a search; its first where that is none of those searched."""
        return self.space.pick(_Preferring(self._defaults()), self.settled)

    def outside(self) -> list[str]:
        """The keys whose default is none of the values searched."""
        defaults, picked = self._defaults(), self.default()
        return [key for key, value in picked.items() if key not in defaults or defaults[key] != value]

    def check(self) -> None:
        """Each option of each group and each end of each interval, composed and checked as `train` would.

        Raises ConfigError with the values that cannot be trained.
        """
        for picked in self._probes():
            try:
                config, composed = self.config_of(picked), self.composed(picked)
                check_unread_keys(composed)
                check_config(config, composed.shipped)
                check_required_values(config, composed.choices, composed.folders)
                check_data_files(config)
            except ConfigError as problem:
                values = " ".join(self.space.overrides(picked))
                raise ConfigError(
                    f"a trial with {values} could not be trained:\n  {problem}{self._hint(problem)}"
                ) from None
            check_metrics(self.settings, config)

    def texts(self) -> dict[str, str]:
        """{file: its content}, from which `load` makes the same plan."""
        return {CONFIG: compose.to_yaml(self.config), FIXED: "".join(f"{override}\n" for override in self.fixed)}

    def save(self, folder: Path) -> None:
        """One of another user's stays theirs."""
        is_ours = not (folder / CONFIG).exists() or self.trust.applies_to(folder)
        for name, text in self.texts().items():
            write_atomically(folder / name, text)
        if is_ours:
            seal.set_seal(folder, seal.SEARCH_FILES)

    @cached_property
    def _groups(self) -> frozenset[str]:
        return frozenset(search_path.option_groups(search_path.config_folders()))

    def _defaults(self) -> dict[str, Value]:
        """{key: its default}, for those that are in the space."""
        composed, found = self.composed({}), {}
        for key, dimension in self.space.dimensions.items():
            value = composed.choices.get(key, _plain(OmegaConf.select(composed.config, key)))
            if isinstance(dimension, Choices) and isinstance(value, list):
                value = next((label for label in dimension.labels if _is_list(label, value)), None)
            if dimension.holds(value):
                found[key] = value
        return found

    def _probes(self) -> list[dict[str, Value]]:
        defaults = self._defaults()
        found = [self.default()]
        for key, dimension in self.space.dimensions.items():
            values = dimension.labels if isinstance(dimension, Choices) else (dimension.low, dimension.high)
            needed = self._satisfying(key)
            for value in values:
                whole = not isinstance(dimension, Choices) and dimension.is_whole
                wanted = int(value) if whole and value is not None else value
                found.append(self.space.pick(_Preferring({**defaults, **needed, key: wanted}), self.settled))
        return [each for number, each in enumerate(found) if each not in found[:number]]

    def _satisfying(self, key: str) -> dict[str, Value]:
        """Values of other dimensions under which this one is searched."""
        found: dict[str, Value] = {}
        for other, allowed in self.space.conditions.get(key, {}).items():
            dimension = self.space.dimensions.get(other)
            if isinstance(dimension, Choices):
                found |= self._satisfying(other)
                found[other] = next(
                    label for label, text in zip(dimension.labels, dimension.texts, strict=True) if text in allowed
                )
        return found

    def _hint(self, problem: ConfigError) -> str:
        searched = [key for key in self.space.dimensions if str(problem).startswith(f"{key} does not exist")]
        if not searched:
            return ""
        return f"\n  to search it only where it exists:  'search.when={{{searched[0]}: {{GROUP: OPTION}}}}'"


def make(typed: Sequence[str]) -> Plan:
    """From the words of the command line. Raises ConfigError."""
    values, rest = sorted_out(typed)
    free = {key: word for word in rest if (key := word.partition("=")[0].removeprefix(f"{OWN}.")) in FREE}
    rest = [word for word in rest if word not in free.values()]
    composed = compose.compose(rest, config_name=PRIMARY)
    check_unread_keys(composed)
    check_config(composed.config, composed.shipped)
    config = composed.config
    with open_dict(config.search):
        for key, word in free.items():
            config.search[key] = mapping(word)
        settled = {word.partition("=")[0] for word in rest}  # one value typed: no longer one of several
        offered = {key: text for key, text in _plain(config.search.space).items() if key not in settled}
        config.search.space = {**offered, **values}
    check_settings(config.search)
    _check_launcher(config, str(composed.choices.get("launch")))
    fixed = [word for word in rest if not (is_own(word) or is_of_the_search(word) or is_about_launching(word))]
    named = {word.lstrip("+~").partition("=")[0] for word in fixed}
    fixed += [f"{key}={raw_value(config, key)}" for key in config.search.fixed if key not in named]
    plan = Plan(config, fixed, _space_of(config))
    _check_repeats(plan)
    if not plan.space.dimensions:
        raise ConfigError(
            "nothing is searched: give a key several values, such as "
            "'optimizer.learning_rate=tag(log,interval(1e-4,1e-1))' or model=mlp,cnn"
        )
    plan.check()
    return plan


def _check_repeats(plan: Plan) -> None:
    if plan.repeats is not None and plan.repeats not in plan.space.dimensions:
        raise ConfigError(
            f"search.repeats={plan.repeats}: expected a key that is searched, such as data.fold=0,1,2; searched are "
            f"{', '.join(plan.space.dimensions) or 'none'}"
        )


def _check_launcher(config: DictConfig, name: str) -> None:
    target = str(config.launch._target_)
    if target != LOCAL and not hasattr(get_class(target), "run_workers"):
        raise ConfigError(
            f"launch={name} cannot run a search: type launch=local, also within a job of a cluster, or launch=slurm "
            "for an array of jobs"
        )


def texts_in(folder: Path) -> dict[str, str]:
    """What stands in the directory of a search now. Raises DamagedFileError."""
    found = {file.name: file.text(folder) for file in (OF_A_SEARCH, run_files.OVERRIDES)}
    return {name: text for name, text in found.items() if text is not None}


def load(folder: Path, trust: TrustPolicy) -> Plan:
    """Of another user's, only those packages may be called that were typed for it.

    Raises DamagedFileError, and RunError for the plan of another version."""
    trust, found = replace(trust, sealed=seal.SEARCH_FILES), texts_in(folder)
    config = frozen.load_trusted_config(folder, trust, OF_A_SEARCH)
    fixed = found.get(FIXED, "").splitlines()
    if not trust.applies_to(folder):
        if "${oc." in "".join(fixed):
            raise ConfigError(
                f"{folder / FIXED} was not made here, and would be filled in with what is on this machine"
            )
        fixed = [word for word in fixed if word.lstrip("+~").partition("=")[0] != search_path.ALLOW_PACKAGES]
        fixed += [f"{search_path.ALLOW_PACKAGES}=[{','.join(trust.packages)}]"] if trust.packages else []
    try:
        return Plan(config, fixed, _space_of(config), trust, found)
    except (ValueError, LookupError, TypeError, AttributeError, OmegaConfBaseException) as problem:
        raise RunError(
            f"{folder} holds no search of this version ({type(problem).__name__}: "
            f"{str(problem).partition(chr(10))[0]}); begin another one with another name="
        ) from problem


def _space_of(config: DictConfig) -> Space:
    options = {group: list(found) for group, found in search_path.option_groups(search_path.config_folders()).items()}
    return sweeps.build(_plain(config.search.space), _plain(config.search["when"]), options)


def _plain(node: Any) -> Any:
    return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node


def _is_list(label: Value, value: list[Any]) -> bool:
    return isinstance(label, str) and label.replace(" ", "") == f"[{','.join(map(str, value))}]"


@dataclass(frozen=True)
class _Preferring:
    """Chooses what is preferred, else the first or lowest."""

    preferred: dict[str, Value]

    def suggest_categorical(self, name: str, choices: Sequence[Value]) -> Value:
        return self.preferred.get(name, choices[0])

    def suggest_float(self, name: str, low: float, high: float, *, step: float | None, log: bool) -> Any:
        return self.preferred.get(name, low)

    def suggest_int(self, name: str, low: int, high: int, *, step: int, log: bool) -> Any:
        return self.preferred.get(name, low)
