"""Set typed values in a configuration: `key=`, `+key=`, `++key=` and `~key`, with the meaning that Hydra gives them."""

from collections.abc import Sequence

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from pipeline.config.arguments import READ_BY_RUN
from pipeline.config.hydra_errors import key_exists, unknown_key
from pipeline.config.search_path import Groups
from pipeline.errors import ConfigError


def apply_overrides(config: DictConfig, overrides: Sequence[Override], groups: Groups) -> None:
    """Change `config`. Raise ConfigError for a key that does not exist, or, with +, for one that exists.

    Hydra does the same only as part of a whole composition, and its messages say less.
    """
    keys = [override.key_or_group for override in overrides]
    named = [key.removesuffix("._target_") for key in keys if key.endswith("._target_")]
    for override in overrides:
        is_open = _is_open(override.key_or_group, [node for node in named if key_exists(node, config)])
        try:
            _assign_one(config, override, groups, is_open=is_open and not override.is_delete())
        except OmegaConfBaseException as problem:
            reason = str(problem).partition("\n")[0]
            raise ConfigError(f"{override.input_line} cannot be set: {reason}") from None


def _assign_one(config: DictConfig, override: Override, groups: Groups, *, is_open: bool) -> None:
    key, typed, value = override.key_or_group, str(override.input_line), override.value()
    is_new = override.is_add() or override.is_force_add() or is_open
    if not is_new and not key_exists(key, config):
        raise unknown_key(key, config, groups)
    if override.is_delete():
        _delete(config, key, typed, value)
        return
    if override.is_add() and not isinstance(value, dict) and OmegaConf.select(config, key) is not None:
        raise ConfigError(f"{typed}: {key} exists already; to change it leave out the plus, {typed[1:]}")
    OmegaConf.update(config, key, value, merge=True, force_add=is_new)


def _is_open(key: str, named: Sequence[str]) -> bool:
    """Return whether a key needs no plus.

    That is so if a class was typed for its node, since the class says what it takes, and for the keys that the run
    itself reads, which have no default.
    """
    node, _, rest = key.partition(".")
    return any(key.startswith(f"{one}.") for one in named) or rest.partition(".")[0] in READ_BY_RUN.get(node, ())


def _delete(config: DictConfig, key: str, typed: str, value: object) -> None:
    present = OmegaConf.select(config, key)
    if value not in (None, "") and value != present:
        raise ConfigError(f"{typed}: the value of {key} is {present}; to delete it all the same, write ~{key}")
    parent, _, name = key.rpartition(".")
    node = OmegaConf.select(config, parent) if parent else config
    with open_dict(node):
        del node[name]
