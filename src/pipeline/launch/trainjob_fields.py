"""Whether a TrainJob has only fields that exist, each of its type: by the models of the package kubeflow-trainer-api.

They are read as text. Importing them builds 400 pydantic classes, which takes longer (1.3 s) than all else that
submitting does; a manifest needs about twenty, which are read in 0.1 s.
"""

import ast
import difflib
import functools
import importlib.util
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import ConfigError

PACKAGE = "kubeflow_trainer_api"
TRAIN_JOB = "trainer_v1alpha1_train_job"
TYPES = {"StrictStr": str, "StrictInt": int, "StrictBool": bool, "datetime": str}
WORDS = {str: "a text", int: "a whole number", bool: "true or false"}
QUANTITY, TEXT_OR_NUMBER = "IoK8sApimachineryPkgApiResourceQuantity", "IoK8sApimachineryPkgUtilIntstrIntOrString"
AMOUNT = r"[+-]?(\d+(\.\d*)?|\.\d+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?\d+)?"


@dataclass(frozen=True)
class Model:
    """fields   their annotations, by the names they have in a manifest
    modules  where the models are that the annotations name
    """

    fields: Mapping[str, ast.expr]
    modules: Mapping[str, str]


def check_fields(value: Any, path: str, *, module: str = TRAIN_JOB) -> None:
    """Raises ConfigError for the first field that the model in `module` lacks, needs, or has of another type."""
    model = _model(module)
    if not isinstance(value, Mapping):
        raise _wrong(path, value, f"the fields {', '.join(model.fields)}")
    for name, inner in value.items():
        if name not in model.fields:
            near = difflib.get_close_matches(str(name), model.fields, n=1, cutoff=0.5)
            meant = f"; did you mean {near[0]}?" if near else ""
            raise ConfigError(f"{_under(path, name)}: there is no such field{meant} (there are {_all(model)})")
        _check_value(inner, _under(path, name), model.fields[name], model.modules)
    missing = [name for name, kind in model.fields.items() if _generic(kind) != "Optional" and name not in value]
    if missing:
        raise ConfigError(f"{path}: {missing[0]} is missing (there are {_all(model)})")


def _check_value(value: Any, path: str, kind: ast.expr, modules: Mapping[str, str]) -> None:
    generic = _generic(kind)
    if generic == "Optional":
        return _check_value(value, path, _inner(kind), modules)
    if generic == "List":
        if not isinstance(value, list):
            raise _wrong(path, value, "a list")
        for number, each in enumerate(value):
            _check_value(each, f"{path}[{number}]", _inner(kind), modules)
        return None
    if generic == "Dict":
        if not isinstance(value, Mapping):
            raise _wrong(path, value, "names and values")
        for name, each in value.items():
            if not isinstance(name, str):
                raise _wrong(path, name, "a text as a name")
            _check_value(each, _under(path, name), _inner(kind), modules)
        return None
    return _check_plain(value, path, ast.unparse(kind), modules)


def _check_plain(value: Any, path: str, kind: str, modules: Mapping[str, str]) -> None:
    if kind == "Any":
        return
    if kind in (QUANTITY, TEXT_OR_NUMBER):
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise _wrong(path, value, "a whole number or a text")
        if kind == QUANTITY and re.fullmatch(AMOUNT, str(value)) is None:
            raise _wrong(path, value, "an amount as Kubernetes writes it, such as 4, 500m or 64Gi")
    elif kind in TYPES:
        if type(value) is not TYPES[kind]:
            raise _wrong(path, value, WORDS[TYPES[kind]])
    else:
        check_fields(value, path, module=modules[kind])


@functools.cache
def _model(module: str) -> Model:
    """A file of that package holds one class, with its fields as `name: Annotation = Field(alias="itsName", ...)`."""
    tree = ast.parse((_folder() / f"{module}.py").read_text(encoding="utf-8"))
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    modules = {name.name: str(node.module).rpartition(".")[2] for node in imports for name in node.names}
    (definition,) = (node for node in tree.body if isinstance(node, ast.ClassDef))
    fields: dict[str, ast.expr] = {}
    for node in definition.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and isinstance(node.value, ast.Call):
            alias = next((word.value for word in node.value.keywords if word.arg == "alias"), None)
            fields[alias.value if isinstance(alias, ast.Constant) else node.target.id] = node.annotation  # type: ignore[index]
    return Model(fields, modules)


def _folder() -> Path:
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        raise ConfigError(
            "launch=kubernetes checks its manifest against a package that is not installed here: "
            "pip install 'kubeflow-trainer-api>=2.3,<3'"
        )
    return Path(found.origin).parent / "models"


def _generic(kind: ast.expr) -> str:
    """The `List` of `List[StrictStr]`; "" for what has no brackets."""
    return ast.unparse(kind.value) if isinstance(kind, ast.Subscript) else ""


def _inner(kind: ast.expr) -> ast.expr:
    """The `StrictStr` of `List[StrictStr]` and of `Dict[str, StrictStr]`."""
    assert isinstance(kind, ast.Subscript)
    return kind.slice.elts[-1] if isinstance(kind.slice, ast.Tuple) else kind.slice


def _under(path: str, name: Any) -> str:
    return f"{path}.{name}" if path else str(name)


def _all(model: Model) -> str:
    return ", ".join(model.fields)


def _wrong(path: str, value: Any, expected: str) -> ConfigError:
    return ConfigError(f"{path}: {value!r} cannot stand here; expected {expected}")
