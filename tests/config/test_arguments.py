"""A class of the user's own in the place of an option's: what was the option's own goes by itself."""

from pathlib import Path

import pytest

from pipeline.config.checks.check_config import check_config
from pipeline.config.compose import compose
from pipeline.errors import ConfigError

MINE = """
class Net:
    def __init__(self, spec, width, dropout): ...


class Bare:
    def __init__(self): ...


class Data:
    def __init__(self, batch_size): ...


class Source:
    def __init__(self): ...
"""


@pytest.fixture
def mine(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (elsewhere / "package_of_mine.py").write_text(MINE)
    monkeypatch.syspath_prepend(elsewhere)
    return "allow_packages=[package_of_mine]"


@pytest.mark.parametrize(
    "group, overrides, left",
    [
        ("model", ["model._target_=package_of_mine.Net", "+model.width=3"], {"dropout", "width"}),
        ("model", ["model._target_=package_of_mine.Bare"], set()),
        ("data", ["data._target_=package_of_mine.Data"], {"batch_size"}),
        ("data", ["data=table", "data._target_=package_of_mine.Data"], {"batch_size"}),
        ("data.source", ["data=iris", "model=mlp", "data.source._target_=package_of_mine.Source"], set()),
    ],
)
def test_keys_of_the_default_class_need_not_be_deleted(
    group: str, overrides: list[str], left: set[str], mine: str
) -> None:
    composed = compose([mine, *overrides])
    check_config(composed.config, composed.shipped)
    node = composed.config
    for name in group.split("."):
        node = node[name]
    assert {str(name) for name in node} == {"_target_", *left}


@pytest.mark.parametrize(
    "overrides, said",
    [
        (["model._target_=package_of_mine.Bare", "model.widths=[1]"], "takes no argument widths"),
        (["model._target_=package_of_mine.Bare", "model.dropout=0.2"], "takes no argument dropout"),
        (["data._target_=package_of_mine.Data", "data.root=."], "takes no argument root"),
        (["data._target_=package_of_mine.Data", "data.source._target_=package_of_mine.Source"], "no argument source"),
        (["model.widths=[1]", "+model.width=3"], "takes no argument width"),
    ],
)
def test_keys_that_were_typed_stay_and_are_looked_at(overrides: list[str], said: str, mine: str) -> None:
    composed = compose([mine, *overrides])
    with pytest.raises(ConfigError, match=said):
        check_config(composed.config, composed.shipped)


def test_a_recipe_of_a_class_of_ones_own_needs_no_deletions_either(mine: str, elsewhere: Path) -> None:
    recipe = elsewhere / "conf/experiment/mine.yaml"
    recipe.parent.mkdir(parents=True)
    recipe.write_text("# @package _global_\nmodel:\n  _target_: package_of_mine.Net\n  width: 8\n  dropout: 0.2\n")
    composed = compose([mine, "experiment=mine"])
    check_config(composed.config, composed.shipped)
    assert dict(composed.config.model) == {"_target_": "package_of_mine.Net", "width": 8, "dropout": 0.2}
