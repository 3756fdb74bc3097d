from dataclasses import dataclass

import pytest
from omegaconf import DictConfig, OmegaConf

from pipeline.config.instantiate import check_signatures, instantiate
from pipeline.errors import ConfigError


@dataclass(frozen=True)
class Spec:
    classes: int


@pytest.fixture
def allowed(their_package: str) -> dict[str, list[str]]:
    return {"allow_packages": [their_package]}


def config_of(allowed: dict[str, list[str]], **nodes: object) -> DictConfig:
    return OmegaConf.create({**allowed, **nodes})


def test_a_node_becomes_its_object(allowed: dict[str, list[str]]) -> None:
    config = config_of(allowed, model={"_target_": "their_package.nets.Net", "width": 3})
    assert instantiate(config.model, config).width == 3


def test_what_is_passed_at_run_time_arrives_untouched(allowed: dict[str, list[str]]) -> None:
    config = config_of(allowed, model={"_target_": "their_package.nets.Needs", "size": 3})
    spec = Spec(classes=10)
    assert instantiate(config.model, config, spec=spec).spec is spec


def test_lists_and_dicts_arrive_plain(allowed: dict[str, list[str]]) -> None:
    config = config_of(allowed, model={"_target_": "their_package.nets.Anything", "widths": [1], "more": {"a": [2]}})
    settings = instantiate(config.model, config).settings
    assert [type(settings["widths"]), type(settings["more"]), type(settings["more"]["a"])] == [list, dict, list]


def test_a_partial_node_waits_for_the_rest(allowed: dict[str, list[str]]) -> None:
    config = config_of(allowed, make={"_target_": "their_package.nets.function", "_partial_": True, "mode": "max"})
    assert instantiate(config.make, config)(rate=0.5) == {"rate": 0.5, "mode": "max"}
    assert instantiate(config.make, config, rate=0.1)() == {"rate": 0.1, "mode": "max"}


def test_a_node_of_nodes_keeps_its_names(allowed: dict[str, list[str]]) -> None:
    net = {"_target_": "their_package.nets.Net", "width": 1}
    config = config_of(allowed, callbacks={"first": net, "second": net}, none={}, empty=None)
    assert list(instantiate(config.callbacks, config)) == ["first", "second"]
    assert instantiate(config.none, config) == {}
    assert instantiate(config.empty, config) is None


def test_what_a_constructor_refuses_is_told_with_the_node(allowed: dict[str, list[str]]) -> None:
    net = {"_target_": "their_package.nets.Net", "width": 0}
    config = config_of(allowed, model=net, callbacks={"mine": net})
    with pytest.raises(ConfigError, match=r"model: width 0 is too small\n  raised in .*nets\.py, line"):
        instantiate(config.model, config)
    with pytest.raises(ConfigError, match=r"callbacks\.mine: width 0 is too small"):
        instantiate(config.callbacks, config)


def test_a_value_that_was_never_given_is_asked_for(allowed: dict[str, list[str]]) -> None:
    net = {"_target_": "their_package.nets.Net", "width": "???"}
    config = config_of(allowed, model=net, callbacks={"mine": net})
    with pytest.raises(ConfigError, match=r"callbacks\.mine\.width has no default .*: callbacks\.mine\.width=VALUE"):
        instantiate(config.callbacks, config)
    with pytest.raises(ConfigError, match=r"model: .* missing .* 'width'"):
        instantiate(config.model, config)


def test_a_failure_that_is_not_the_users_stays_what_it_is(allowed: dict[str, list[str]]) -> None:
    config = config_of(allowed, model={"_target_": "their_package.nets.broken", "size": 1})
    with pytest.raises(RuntimeError, match="the machine broke down"):
        instantiate(config.model, config)


@pytest.mark.parametrize(
    "target", ["os.system", "their_package.nets.smuggled", "their_package.nets.os.system", "builtins.eval"]
)
def test_only_what_resolves_into_an_allowed_package_is_called(allowed: dict[str, list[str]], target: str) -> None:
    node = {"_target_": target, "command": "exit 3"}
    for each in (node, {"x": node}, [node], {"_target_": "their_package.nets.Anything", "inner": node}):
        config = config_of(allowed, node=each)
        with pytest.raises(ConfigError, match="may call"):
            instantiate(config.node, config)
        with pytest.raises(ConfigError, match="may call"):
            check_signatures(config)


def test_without_recursion_nested_targets_are_checked_all_the_same(allowed: dict[str, list[str]]) -> None:
    node = {"_target_": "their_package.nets.Anything", "_recursive_": False, "inner": {"_target_": "os.system"}}
    with pytest.raises(ConfigError, match="may call"):
        instantiate(config_of(allowed, node=node).node, config_of(allowed))


@pytest.mark.parametrize(
    "node, expected",
    [
        ({"_target_": "their_package.nets.Net", "widht": 3}, "takes no argument widht\n  did you mean  model.width ?"),
        ({"_target_": "their_package.nets.Net"}, "needs width, but no value is given"),
        ({"_target_": "their_package.nets.Nett"}, "cannot be imported"),
        ({"_target_": "their_package.nets.Mode"}, "may call"),
        ({"_target_": "their_package.nets.Needs", "size": 1, "spec": 2}, "the run passes it"),
    ],
)
def test_real_signatures_are_checked_after_the_imports(
    allowed: dict[str, list[str]], node: dict[str, object], expected: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        check_signatures(config_of(allowed, model=node))
    assert expected in str(caught.value)


def test_what_is_given_at_run_time_or_later_is_not_missing(allowed: dict[str, list[str]]) -> None:
    needs = {"_target_": "their_package.nets.Needs", "size": 1}
    later = {"_target_": "their_package.nets.function", "_partial_": True}
    check_signatures(config_of(allowed, model=needs, optimizer=later))
