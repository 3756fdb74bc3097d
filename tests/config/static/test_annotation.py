import ast
from typing import Any

import pytest

from pipeline.config.static import lookup, signature
from pipeline.config.static.annotation import describe_annotation, fits


@pytest.mark.parametrize(
    "parameter, value, expected",
    [
        ("rate", 0.5, True),
        ("rate", 1, True),
        ("rate", True, False),
        ("rate", "0.5", False),
        ("rate", None, False),
        ("mode", "min", True),
        ("mode", "mean", False),
        ("devices", "auto", True),
        ("devices", 2, True),
        ("devices", [0, 1], True),
        ("devices", ["a"], False),
        ("devices", 2.5, False),
        ("betas", [0.9, 1], True),
        ("betas", [0.9], False),
        ("betas", [0.9, "x"], False),
        ("steps", None, True),
        ("steps", 3.0, False),
        ("widths", [1, 2, 3], True),
        ("widths", [1, 2.5], False),
        ("widths", 3, False),
        ("table", {"a": 1}, True),
        ("table", [1], False),
        ("anything", object(), True),
        ("rate", {"_target_": "their_package.nets.Net"}, None),
    ],
)
def test_values_are_held_against_the_annotation(their_package: str, parameter: str, value: Any, expected: bool) -> None:
    read = signature.signature_of_source(lookup.find_entity(f"{their_package}.nets.function"))
    assert read is not None
    annotated = read.parameters[parameter]
    assert annotated.annotation is not None
    assert annotated.module is not None
    assert fits(value, annotated.annotation, annotated.module) is expected


@pytest.mark.parametrize(
    "annotation, words",
    [
        ("int", "a whole number"),
        ("Optional[Union[int, float]]", "a number or null"),
        ("Sequence[int]", "a list of whole numbers"),
        ("'float | None'", "a number or null"),
        ("Literal['a', 'b']", "a or b"),
        ("Mode", "min or max"),
        ("bool", "true or false"),
    ],
)
def test_annotations_are_told_in_words(their_package: str, annotation: str, words: str) -> None:
    module = lookup.find_entity(f"{their_package}.nets")
    assert isinstance(module, lookup.Module)
    assert describe_annotation(ast.parse(annotation, mode="eval").body, module) == words


def test_a_class_in_an_annotation_cannot_be_told(their_package: str) -> None:
    module = lookup.find_entity(f"{their_package}.nets")
    assert isinstance(module, lookup.Module)
    assert fits("x", ast.parse("Net | None", mode="eval").body, module) is None
