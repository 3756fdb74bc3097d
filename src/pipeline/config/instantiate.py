"""Build objects from nodes of the configuration. The object that a name resolves to is checked, not only the name."""

import functools
import inspect
import re
import traceback
from typing import Any

import hydra.utils
from hydra.errors import InstantiationException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue

from pipeline.config.arguments import (
    ARGUMENT_ALIASES,
    PARTIAL_NODES,
    READ_BY_RUN,
    argument_name,
    check_arguments,
    is_hydra_key,
    node_pattern,
)
from pipeline.config.hydra_private import node_path
from pipeline.config.static import signature
from pipeline.config.target_allowlist import allowed_packages, check_target_name, check_target_origin, target_nodes
from pipeline.errors import ConfigError, UserError


def check_signatures(config: DictConfig) -> None:
    """Import every `_target_` and check its arguments with the real signature. Raise ConfigError if they do not fit.

    This finds what reading the source does not: names made at run time, decorators, compiled code.
    """
    packages = allowed_packages(config)
    for path, node in target_nodes(OmegaConf.to_container(config)):
        found = signature.signature_of_object(_object(node["_target_"], path, packages))
        if found is not None:
            check_arguments(path, node, found)


def instantiate(node: Any, config: DictConfig, **arguments: Any) -> Any:
    """Build the object of a node's `_target_`; nested nodes are built first, lists and dicts are plain.

    `arguments` are passed as they are and win over those of the node. If the node has no `_target_`, its nested nodes
    are built and stay in place; null stays None. Raise ConfigError for a target that is not allowed, and if a
    constructor refuses its arguments.
    """
    path = node_path(node) if isinstance(node, DictConfig | ListConfig) else ""
    later = node_pattern(path) in PARTIAL_NODES
    packages = allowed_packages(config)
    for inner, target in target_nodes(_plain(node), path):
        _object(target["_target_"], inner, packages)
    try:
        if not isinstance(node, DictConfig) or "_target_" not in node:
            return hydra.utils.instantiate(node, _convert_="all")
        # Arguments bypass Hydra, which would turn a dataclass among them into a configuration.
        own = _for_target(node, path)
        build = hydra.utils.instantiate(own, _convert_="all", _partial_=True)
        return functools.partial(build, **arguments) if later or node.get("_partial_") else build(**arguments)
    except Exception as problem:
        mistake = _mistake(problem, path)
        if mistake is None:
            raise
        raise mistake from problem


def import_target(node: DictConfig, config: DictConfig) -> Any:
    """Return the class or function that a node's `_target_` names. Raise ConfigError if it may not be called."""
    return _object(node["_target_"], node_path(node), allowed_packages(config))


def _for_target(node: DictConfig, path: str) -> DictConfig:
    """Return the node under the names of its target's arguments, without what the run reads from it."""
    found = signature.signature_of_object(hydra.utils.get_object(node["_target_"]))
    if found is None or path not in (*READ_BY_RUN, *ARGUMENT_ALIASES):
        return node
    plain: dict[Any, Any] = OmegaConf.to_container(node, resolve=True)  # type: ignore[assignment]
    names = {name: name if is_hydra_key(name) else argument_name(path, name, found) for name in plain}
    own = {theirs: plain[name] for name, theirs in names.items() if theirs is not None}
    for inner, target in target_nodes({path: own}):
        if node_pattern(inner) in PARTIAL_NODES:
            target["_partial_"] = True
    return OmegaConf.create(own)


def _mistake(problem: Exception, path: str) -> UserError | None:
    """Return the error for arguments that a constructor refused; None if other arguments would not help."""
    nested = re.search(r"full_key: (\S+)", str(problem))
    where = nested.group(1) if nested is not None and isinstance(problem, InstantiationException) else path
    cause: BaseException = problem
    while isinstance(cause, InstantiationException) and cause.__cause__ is not None:
        cause = cause.__cause__
    if isinstance(cause, UserError):
        return cause
    if isinstance(cause, MissingMandatoryValue):
        return ConfigError(f"{cause.full_key} has no default and must be given: {cause.full_key}=VALUE")
    if isinstance(cause, InstantiationException):  # Hydra's own refusal
        return ConfigError(f"{where}: {str(cause).partition(chr(10))[0]}")
    # Lightning's own ValueError is no ValueError; it is known by name, because importing it takes seconds.
    if not isinstance(cause, TypeError | ValueError) and type(cause).__name__ != "MisconfigurationException":
        return None
    place = traceback.extract_tb(cause.__traceback__)[-1]
    return ConfigError(f"{where}: {cause}\n  raised in {place.filename}, line {place.lineno}")


def _plain(node: Any) -> Any:
    """Return the node with its interpolations resolved, since their values are called as well."""
    return OmegaConf.to_container(node, resolve=True) if isinstance(node, DictConfig | ListConfig) else node


def _object(target: Any, path: str, packages: list[str]) -> Any:
    """Return the object of a dotted name, after checking its name and the module that defines it."""
    check_target_name(str(target), path, packages)
    try:
        found = hydra.utils.get_object(str(target))
    except (ImportError, AttributeError, ValueError) as problem:
        raise ConfigError(f"{path}._target_={target} cannot be imported: {problem}") from problem
    origin = f"{getattr(found, '__module__', None)}.{getattr(found, '__qualname__', '')}"
    check_target_origin(origin, str(target), path, packages, is_class=inspect.isclass(found))
    if not callable(found):
        raise ConfigError(f"{path}._target_={target} is {found!r}; expected a class or a function")
    return found
