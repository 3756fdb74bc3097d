"""Check a configuration before torch is imported: in tenths of a second, not in seconds."""

import ast
from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from pipeline.config.arguments import check_arguments, is_hydra_key
from pipeline.config.checks.addresses import check_addresses, check_launch_variables, check_secrets
from pipeline.config.checks.cross_checks import check_constraints, check_object_nodes
from pipeline.config.checks.texts import check_no_empty_text
from pipeline.config.checks.types import UNKNOWN, check_type
from pipeline.config.search_path import MISSING
from pipeline.config.static import lookup, signature
from pipeline.config.static.signature import Signature
from pipeline.config.suggestions import did_you_mean, listing, nearest_names
from pipeline.config.target_allowlist import (
    IMPORTABLE,
    allowed_packages,
    check_target_name,
    check_target_origin,
    target_nodes,
)
from pipeline.errors import ConfigError

Node = dict[str, Any]

# Nodes that name no class, because it is always the same.
FIXED_TARGETS = {
    "": "pipeline.config.stubs.Configuration",
    "batch": "pipeline.config.stubs.BatchNode",
    "checkpoint": "pipeline.training.callbacks.checkpointing.Checkpointing",
}


def check_config(config: DictConfig, shipped: DictConfig | None = None) -> None:
    """Raise ConfigError for wrong names, types, `_target_`s and arguments, and for conditions that do not hold.

    A missing value (???) is not checked. Types must fit the annotations of the targets and, if `shipped` is given, its
    defaults.
    """
    plain, defaults = _plain(config), {} if shipped is None else _plain(shipped)
    packages = allowed_packages(plain)
    check_secrets(plain)  # first, because the errors of other checks show values
    check_launch_variables(plain)
    check_no_empty_text(plain, defaults)
    signatures = {path: _signature(path, node, packages) for path, node in target_nodes(plain)}
    check_object_nodes(plain)
    for path, node in target_nodes(plain):
        found = signatures[path]
        if found is not None:
            check_arguments(path, node, found)
    signatures |= {
        path: signature.signature_of_source(lookup.find_entity(target)) for path, target in FIXED_TARGETS.items()
    }
    if shipped is not None:
        _check_new_keys(plain, defaults)
    _check_types(plain, defaults, "", signatures)
    filled_in = _plain(config, resolve=True)
    check_addresses(filled_in)
    check_constraints(filled_in)


def check_targets(config: DictConfig) -> None:
    """Raise ConfigError if a configuration calls what it may not call, as far as reading the source tells."""
    plain = _plain(config)
    packages = allowed_packages(plain)
    for path, node in target_nodes(plain):
        _signature(path, node, packages)


def _plain(config: DictConfig, *, resolve: bool = False) -> Node:
    plain = OmegaConf.to_container(config, resolve=resolve)
    assert isinstance(plain, dict)
    return {str(name): value for name, value in plain.items()}


def _signature(path: str, node: Node, packages: Sequence[str]) -> Signature | None:
    """Return the signature of a node's target, read from its source; None if that does not tell.

    Raise ConfigError for a target that does not exist or may not be called.
    """
    target = node["_target_"]
    if not isinstance(target, str) or not all(part.isidentifier() for part in target.split(".")):
        raise ConfigError(f"{path}._target_={target}: expected the dotted path of a class, such as my_package.MyNet")
    try:
        entity = lookup.find_entity(target)
    except lookup.NotFound as problem:
        raise _wrong_target(path, target, problem, packages) from None
    check_target_name(target, path, packages)
    if isinstance(entity, lookup.Definition) and isinstance(entity.node, ast.ClassDef | ast.FunctionDef):
        origin = f"{entity.module.name}.{entity.node.name}"
        check_target_origin(origin, target, path, packages, is_class=isinstance(entity.node, ast.ClassDef))
    if isinstance(entity, lookup.Module):
        classes = (f"{target}.{name}" for name in lookup.classes_in(entity))
        raise ConfigError(
            f"{path}._target_={target} is a module; expected a class or a function in it{listing('it has', classes)}"
        )
    return signature.signature_of_source(entity)


def _wrong_target(path: str, target: str, problem: lookup.NotFound, packages: Sequence[str]) -> ConfigError:
    """Return the error for a target that does not exist, with the path that was probably meant."""
    if not problem.place:
        known = {name.partition(".")[0] for name in (*IMPORTABLE, *packages)} - {problem.name}
        tops = nearest_names(problem.name, sorted(known))
        meant = did_you_mean(f"{top}{target[len(problem.name) :]}" for top in tops)
        remedy = meant or "\n  a package of your own is found in the working directory, or must be installed"
        return ConfigError(f"{path}._target_={target}: there is no package {problem.name}{remedy}")
    rest = target[len(f"{problem.place}.{problem.name}") :]
    suggestions = [f"{problem.place}.{name}{rest}" for name in nearest_names(problem.name, problem.known)]
    return ConfigError(f"{path}._target_={target} does not exist: {problem}{did_you_mean(suggestions)}")


def _check_new_keys(plain: Node, shipped: Node) -> None:
    """Raise ConfigError for keys that + or a recipe added where nothing reads them.

    Nodes with a `_target_` are checked with their signatures. To others only new objects can be added.
    """
    for name, node in plain.items():
        default = shipped.get(name)
        if isinstance(node, dict) and isinstance(default, dict) and "_target_" not in node:
            for key in node.keys() - default.keys():
                if not isinstance(node[key], dict) or "_target_" not in node[key]:
                    raise ConfigError(
                        f"{name}.{key} does not exist"
                        f"{did_you_mean(f'{name}.{near}' for near in nearest_names(key, default))}"
                        f"{listing(f'all keys of {name}', default)}"
                    )


def _check_types(node: Node, shipped: Any, path: str, signatures: Mapping[str, Signature | None]) -> None:
    """Check every value below a node with its annotation and its shipped default."""
    is_same = isinstance(shipped, dict) and shipped.get("_target_") == node.get("_target_")
    defaults = shipped if is_same else {}  # another class's defaults say nothing about this one's
    found = signatures.get(path)
    for name, value in node.items():
        if is_hydra_key(name) or value == MISSING:
            continue
        where = f"{path}.{name}" if path else name
        parameter = None if found is None else found.parameters.get(name)
        default = defaults.get(name, UNKNOWN)
        check_type(where, value, UNKNOWN if default == MISSING else default, parameter)
        if isinstance(value, dict):
            _check_types(value, default, where, signatures)
