"""Find the arguments of a class or function, from its source or from the object itself."""

import ast
import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from pipeline.config.static import lookup
from pipeline.config.static.lookup import Definition, Entity, Module, class_constant

STUBS = "pipeline.config.stubs"


@dataclass(frozen=True)
class Parameter:
    """An argument. The annotation is as written, in the names of `module`; both are None if there is none."""

    is_required: bool
    annotation: ast.expr | None = None
    module: Module | None = None


@dataclass(frozen=True)
class Signature:
    """The arguments that can be passed by name."""

    parameters: dict[str, Parameter]
    takes_any: bool = False  # **kwargs

    def required(self) -> list[str]:
        return [name for name, parameter in self.parameters.items() if parameter.is_required]


def signature_of_source(entity: Entity) -> Signature | None:
    """Return the signature of a definition; None if reading the source does not tell."""
    if not isinstance(entity, Definition):
        return None
    if isinstance(entity.node, ast.FunctionDef):
        return _of_function(entity.node, entity.module, skip_first=entity.is_bound)
    if not isinstance(entity.node, ast.ClassDef):
        return None
    found = _of_class(entity)
    return None if found is None else _narrowed(found, entity)


def _narrowed(found: Signature, owner: Definition) -> Signature:
    """Return a signature with the narrower types that `stubs` lists for a class of another package."""
    assert isinstance(owner.node, ast.ClassDef)
    stub = f"{STUBS}.{owner.node.name}"
    if class_constant(stub, "defined_in") != owner.module.name:
        return found
    narrower = signature_of_source(lookup.find_entity(stub))
    assert narrower is not None
    parameters = {
        name: replace(narrower.parameters[name], is_required=each.is_required) if name in narrower.parameters else each
        for name, each in found.parameters.items()
    }
    return replace(found, parameters=parameters)


def signature_of_object(target: Callable[..., Any]) -> Signature | None:
    """Return the signature of an object; None for a compiled one that has none."""
    try:
        parameters = inspect.signature(target).parameters.values()
    except (ValueError, TypeError):
        return None
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return Signature(
        {each.name: Parameter(each.default is inspect.Parameter.empty) for each in parameters if each.kind in named},
        takes_any=any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters),
    )


def _of_function(node: ast.FunctionDef, module: Module, *, skip_first: bool) -> Signature:
    arguments = node.args
    positional = [*arguments.posonlyargs, *arguments.args]
    without_default = len(positional) - len(arguments.defaults)
    parameters = {
        argument.arg: Parameter(index < without_default, argument.annotation, module)
        for index, argument in enumerate(positional)
        if index >= len(arguments.posonlyargs) and not (skip_first and index == 0)
    }
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        parameters[argument.arg] = Parameter(default is None, argument.annotation, module)
    return Signature(parameters, takes_any=arguments.kwarg is not None)


def _of_class(owner: Definition) -> Signature | None:
    """Return the signature of the constructor: of the class, of its dataclass fields, or of the nearest base."""
    assert isinstance(owner.node, ast.ClassDef)
    for name in ("__init__", "__new__"):
        constructors = [each for each in owner.node.body if isinstance(each, ast.FunctionDef) and each.name == name]
        if constructors:  # the last one: those before it are @overload
            return _of_function(constructors[-1], owner.module, skip_first=True)
    if _is_dataclass(owner.node):
        return _of_dataclass(owner)
    for base in lookup.base_classes(owner):
        inherited = None if base is None else _of_class(base)
        if inherited is None or inherited.parameters or inherited.takes_any:
            return inherited
    return Signature({})


def _is_dataclass(node: ast.ClassDef) -> bool:
    plain = [each.func if isinstance(each, ast.Call) else each for each in node.decorator_list]
    return any(getattr(each, "id", getattr(each, "attr", "")) == "dataclass" for each in plain)


def _of_dataclass(owner: Definition) -> Signature | None:
    assert isinstance(owner.node, ast.ClassDef)
    parameters: dict[str, Parameter] = {}
    for base in lookup.base_classes(owner):
        inherited = None if base is None else _of_class(base)
        if inherited is None:
            return None
        parameters |= inherited.parameters
    for field in owner.node.body:
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            options = _field_options(field.value)
            if "ClassVar" not in ast.unparse(field.annotation) and options.get("init", True):
                is_required = field.value is None or (
                    "init" in options and not options.keys() & {"default", "default_factory"}
                )
                parameters[field.target.id] = Parameter(is_required, field.annotation, owner.module)
    return Signature(parameters)


def _field_options(value: ast.expr | None) -> dict[str, Any]:
    """Return the arguments of `field(...)`, always with `init`; empty for a plain default."""
    if not isinstance(value, ast.Call) or getattr(value.func, "id", getattr(value.func, "attr", "")) != "field":
        return {}
    given = {each.arg: getattr(each.value, "value", True) for each in value.keywords if each.arg is not None}
    return {"init": True, **given}
