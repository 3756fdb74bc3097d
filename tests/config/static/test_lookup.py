import ast
import subprocess
import sys

import pytest

from pipeline.config.static import lookup, signature
from pipeline.config.static.lookup import Definition, Module, NotFound


def found(dotted: str) -> Definition:
    entity = lookup.find_entity(dotted)
    assert isinstance(entity, Definition)
    return entity


def parameters(dotted: str) -> dict[str, bool]:
    """{name: whether it is required}"""
    read = signature.signature_of_source(lookup.find_entity(dotted))
    assert read is not None
    return {name: parameter.is_required for name, parameter in read.parameters.items()}


@pytest.mark.parametrize("name", ["nets.Net", "Exported", "stars.Net", "stars.Alias"])
def test_re_exports_aliases_and_stars_lead_to_the_same_class(their_package: str, name: str) -> None:
    entity = found(f"{their_package}.{name}")
    assert isinstance(entity.node, ast.ClassDef)
    assert (entity.node.name, entity.module.name) == ("Net", f"{their_package}.nets")


@pytest.mark.parametrize(
    "name, expected",
    [
        ("nets.Net", {"width": True, "activation": False, "scale": False}),
        ("nets.Inherits", {"width": True, "activation": False, "scale": False}),
        ("nets.Net.pretrained", {"name": True}),
        ("nets.Settings", {"size": True, "names": False}),
        ("nets.broken", {"size": True}),
    ],
)
def test_arguments_are_read_from_the_source(their_package: str, name: str, expected: dict[str, bool]) -> None:
    assert parameters(f"{their_package}.{name}") == expected


def test_a_class_without_a_constructor_takes_nothing(their_package: str) -> None:
    assert parameters(f"{their_package}.nets.Conditional") == {}


@pytest.mark.parametrize(
    "target, argument",
    [
        ("pytorch_lightning.Trainer", "max_epochs"),
        ("pytorch_lightning.callbacks.EarlyStopping", "patience"),
        ("torch.optim.AdamW", "weight_decay"),
        ("torch.nn.Linear", "in_features"),
        ("torch.optim.lr_scheduler.OneCycleLR", "max_lr"),
        ("kornia.augmentation.RandomAffine", "degrees"),
        ("torchmetrics.Accuracy", "task"),
        ("torchmetrics.classification.MulticlassAccuracy", "num_classes"),
    ],
)
def test_the_libraries_that_a_configuration_may_name_can_be_read(target: str, argument: str) -> None:
    assert argument in parameters(target)


def test_nothing_is_imported_to_read() -> None:
    code = (
        "import sys; from pipeline.config.static import lookup, signature;"
        "signature.signature_of_source(lookup.find_entity('pytorch_lightning.Trainer'));"
        "print(sorted({'torch', 'pytorch_lightning', 'lightning_fabric'} & set(sys.modules)))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


@pytest.mark.parametrize("name", ["nets.Nett", "netz.Net"])
def test_a_wrong_name_is_told_with_what_there_is(their_package: str, name: str) -> None:
    with pytest.raises(NotFound) as caught:
        lookup.find_entity(f"{their_package}.{name}")
    assert caught.value.known


def test_a_package_that_is_not_installed_is_told() -> None:
    with pytest.raises(NotFound, match="surely_not_here is not installed"):
        lookup.find_entity("surely_not_here.Net")


@pytest.mark.parametrize("target", ["their_package.dynamic.Anything", "math.sqrt", "their_package.nets.Net.forward"])
def test_what_only_running_the_code_would_tell_is_left_open(their_package: str, target: str) -> None:
    assert signature.signature_of_source(lookup.find_entity(target)) is None


def test_a_module_is_found_as_a_module(their_package: str) -> None:
    assert isinstance(lookup.find_entity(f"{their_package}.nets"), Module)
