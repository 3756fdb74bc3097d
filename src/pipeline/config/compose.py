"""Compose one plain configuration from Hydra's files and overrides."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hydra
import yaml
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from pipeline import moved, run_files
from pipeline.config import hydra_errors, search_path
from pipeline.config.apply_overrides import apply_overrides
from pipeline.config.arguments import remove_unused_defaults
from pipeline.config.checks.texts import check_run_name
from pipeline.config.hydra_private import hydra_search_path
from pipeline.config.interpolations import resolved_values
from pipeline.config.overrides import check_choices, parse_overrides
from pipeline.config.search_path import PRIMARY, RECIPE_GROUP, Choice, check_yaml_files
from pipeline.config.target_allowlist import allowed_packages, target_nodes
from pipeline.errors import ConfigError
from pipeline.run_files import RunFile
from pipeline.system.files import ContentError
from pipeline.system.json_shape import find_mismatch


def update_moved_targets(config: DictConfig) -> dict[str, str]:
    """Change every `_target_` that has moved; return {old name: new name} of those."""
    plain: Any = OmegaConf.to_container(config, resolve=False)
    renamed = {}
    for path, node in target_nodes(plain):
        old = str(node["_target_"])
        new = moved.current_name(old)
        if new != old:
            OmegaConf.update(config, f"{path}._target_" if path else "_target_", new)
            renamed[old] = new
    return renamed


def warn_of_moved_targets(renamed: Mapping[str, str]) -> None:
    if renamed:
        names = ", ".join(f"{old} is now {new}" for old, new in renamed.items())
        run_files.warn_once(f"{names}: the old name still works; to be rid of this line, write the new one")


# What Hydra and OmegaConf raise for mistakes of a user; ValueError among them, for some choices of a group.
COMPOSITION_ERRORS = (HydraException, OmegaConfBaseException, yaml.YAMLError, ValueError)


@dataclass(frozen=True)
class Composed:
    """A composed configuration, and where it came from.

    config        with interpolations resolved, except those of the environment; no key can be added, and a value that
                  must be given may still be missing
    unresolved    the same configuration with its interpolations
    shipped       the same options with the values of their files only: types are checked against it
    choices       {group: option}
    folders       the folders that were searched for files
    overrides     as typed
    files         {file: its group}
    """

    config: DictConfig
    unresolved: DictConfig
    shipped: DictConfig
    choices: dict[str, Choice]
    folders: list[Path]
    overrides: list[str]
    config_name: str
    files: dict[Path, str]


def compose(overrides: Sequence[str], *, config_name: str = PRIMARY, config_dirs: Sequence[str] = ()) -> Composed:
    """Compose a configuration. Raise ConfigError for what does not exist, cannot be read or refers to nothing."""
    folders = search_path.config_folders(config_dirs)
    if search_path.find_config(config_name, folders) is None:
        raise hydra_errors.unknown_config_name(config_name, folders)
    check_yaml_files(search_path.primary_configs(folders), folders)
    parsed = parse_overrides(overrides)
    groups = search_path.groups_of_config(config_name, folders)
    check_choices(parsed, groups)

    composition = _Composition(folders, config_name)
    chosen = [override for override in parsed if override.key_or_group in groups]
    check_yaml_files(_names(chosen), folders)
    try:
        config, choices = composition.of(chosen)
        shipped = composition.shipped(chosen, config, choices)
    except COMPOSITION_ERRORS as problem:
        raise hydra_errors.explain_hydra_error(problem, groups) from None
    values = [override for override in parsed if override.key_or_group not in groups]
    own, files = search_path.project_packages(), _files(config_name, choices, folders)
    _leave_out_packages(config, own, files)
    apply_overrides(config, values, groups)
    warn_of_moved_targets({**update_moved_targets(shipped), **update_moved_targets(config)})
    remove_unused_defaults(config, shipped, values)
    with open_dict(config):
        config.allow_packages = list(dict.fromkeys([*own, *allowed_packages(config)]))
    drop_null_callbacks(config)
    fill_default_names(config, choices, config_name)
    resolved = resolve_interpolations(config)
    if not OmegaConf.is_missing(resolved, "name"):
        check_run_name(resolved.name)
    return Composed(resolved, config, shipped, choices, folders, list(overrides), config_name, files)


def _names(chosen: Sequence[Override]) -> Iterator[str]:
    for override in chosen:
        value = None if override.is_delete() else override.value()
        for option in value if isinstance(value, list) else [value]:
            if option is not None:
                yield f"{override.key_or_group}/{option}"


@dataclass(frozen=True)
class _Composition:
    """Hydra's Compose API over a search path. It applies the chosen options, not the typed values."""

    folders: list[Path]
    config_name: str

    def of(self, chosen: Sequence[Override]) -> tuple[DictConfig, dict[str, Choice]]:
        config, choices = self._compose([str(override.input_line) for override in chosen])
        # Hydra does not report a group from which a list of options was chosen: here the last choice wins.
        typed = {each.key_or_group: None if each.is_delete() else each.value() for each in chosen}
        asked = self._defaults_of(self.config_name)
        for group, choice in {**choices, **typed}.items():
            if _is_recipe(group):
                for name in choice if isinstance(choice, list) else [choice]:
                    asked |= self._defaults_of(f"{group}/{name}")
        lists = {group: choice for group, choice in {**asked, **typed}.items() if isinstance(choice, list)}
        return config, {**lists, **choices}

    def shipped(self, chosen: Sequence[Override], config: DictConfig, choices: dict[str, Choice]) -> DictConfig:
        """Return the configuration without its recipes, but with the options that they chose."""
        if not any(_is_recipe(group) and choice for group, choice in choices.items()):
            return config.copy()
        wanted = {group: None if _is_recipe(group) else choice for group, choice in choices.items()}
        changed = [
            _choice_text(group, wanted[group])
            for group, default in self._defaults_of(self.config_name).items()
            if group in wanted and wanted[group] != default
        ]
        kept = [str(override.input_line) for override in chosen if not _is_recipe(override.key_or_group)]
        try:
            return self._compose([*kept, *changed])[0]
        except COMPOSITION_ERRORS:
            return config.copy()  # these options only work together with the recipe, so its values are the reference

    def _defaults_of(self, name: str) -> dict[str, Choice]:
        return search_path.default_choices(name, self.folders)

    def _compose(self, texts: list[str]) -> tuple[DictConfig, dict[str, Choice]]:
        with hydra_search_path(self.folders):
            config = hydra.compose(self.config_name, texts, return_hydra_config=True)
        known: dict[str, Any] = OmegaConf.to_container(config.hydra.runtime.choices)  # type: ignore[assignment]
        with open_dict(config):
            del config["hydra"]
        return config, {group: choice for group, choice in known.items() if not group.startswith("hydra/")}


def drop_null_callbacks(config: DictConfig) -> None:
    """Remove from `config` the callbacks that an option or the user has set to null."""
    callbacks = config.get("callbacks") or {}
    with open_dict(config):
        for name in [name for name, callback in callbacks.items() if callback is None]:
            del callbacks[name]


def _leave_out_packages(config: DictConfig, own: Sequence[str], files: Iterable[Path]) -> None:
    """Clear `allow_packages`. Raise ConfigError if a file allows packages that the project does not allow."""
    brought = [name for name in allowed_packages(config) if name not in own]
    if brought:
        telling = (file for file in files if search_path.read_yaml(file).get(search_path.ALLOW_PACKAGES))
        raise ConfigError(
            f"{next(telling, 'a configuration file')} allows its own packages, {', '.join(brought)}, whose code could "
            "do anything; take that line out of it\n"
            f"  to allow them once            'allow_packages=[{','.join(brought)}]'\n"
            f"  to allow them in this folder  write  allow_packages: [{', '.join([*own, *brought])}]  to "
            f"conf/{search_path.ALLOW_PACKAGES}.yaml"
        )
    with open_dict(config):
        config.allow_packages = []


def _files(config_name: str, choices: dict[str, Choice], folders: Sequence[Path]) -> dict[Path, str]:
    """Return {file: its group} of all composed files, without those that they include."""
    chosen = [(group, choice if isinstance(choice, list) else [choice]) for group, choice in choices.items()]
    named = {config_name: ""} | {
        f"{group}/{option}": group for group, options in chosen for option in options if option
    }
    return {
        file: group for name, group in named.items() if (file := search_path.find_config(name, folders)) is not None
    }


def fill_default_names(config: DictConfig, choices: dict[str, Choice], config_name: str) -> None:
    """Set `name` and MLflow's experiment in `config` if they are null, for example cnn-mnist5k in mnist5k."""
    written: dict[str, Any] = OmegaConf.to_container(config, resolve=False)  # type: ignore[assignment]
    tracking = written.get("tracking") or {}
    model, data = (_last_name(choices.get(group)) for group in ("model", "data"))
    with open_dict(config):
        if written.get("name") is None:
            config.name = "-".join(name for name in (model, data) if name is not None) or config_name
        if tracking.get("uri") is not None and tracking.get("experiment") is None:
            config.tracking.experiment = data or config_name


def resolve_interpolations(config: DictConfig) -> DictConfig:
    """Return the configuration with its interpolations resolved, except those of the environment; ??? stays.

    Raise ConfigError for one that refers to nothing.
    """
    try:
        plain = resolved_values(config)
    except OmegaConfBaseException as problem:
        raise hydra_errors.unresolvable(problem) from None
    resolved = OmegaConf.create(plain)
    assert isinstance(resolved, DictConfig)
    OmegaConf.set_struct(resolved, True)
    return resolved


def to_yaml(config: DictConfig) -> str:
    """Return the configuration as YAML, with its interpolations unresolved."""
    return OmegaConf.to_yaml(config, resolve=False)


def load_frozen_config(folder: Path, file: RunFile = run_files.CONFIG) -> DictConfig:
    """Return the frozen configuration in a folder, closed to new keys. Raise DamagedFileError if it is unreadable."""
    text = file.text(folder)
    try:
        if not text:
            raise ContentError("is empty" if text == "" else "is not there")
        config = OmegaConf.create(text)
        problem = find_mismatch(OmegaConf.to_container(config), file.shape)
        if problem is not None:
            raise ContentError(f"has another shape: {problem}")
    except (yaml.YAMLError, OmegaConfBaseException, ValueError, RecursionError, AssertionError) as problem:
        raise file.damaged(
            folder, ContentError(f"is not a valid configuration: {' '.join(str(problem).split())}")
        ) from problem
    except ContentError as problem:
        raise file.damaged(folder, problem) from problem
    assert isinstance(config, DictConfig)
    update_moved_targets(config)  # without a warning: the files of a run do not change
    OmegaConf.set_struct(config, True)
    return config


def set_value(config: DictConfig, key: str, value: str) -> None:
    """Change one value of a frozen configuration, given as typed after `key=`. Raise ConfigError if that fails."""
    apply_overrides(config, parse_overrides([f"{key}={value}"]), groups={})


def _is_recipe(group: str) -> bool:
    return group.partition("/")[0] == RECIPE_GROUP


def _last_name(choice: Choice) -> str | None:
    return choice.rpartition("/")[2] if isinstance(choice, str) else None


def _choice_text(group: str, choice: Choice) -> str:
    if choice is None:
        return f"~{group}"
    return f"{group}={choice if isinstance(choice, str) else '[' + ','.join(choice) + ']'}"
