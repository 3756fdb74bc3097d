import pytest

from pipeline.tracking.mlflow import store


@pytest.mark.parametrize("name", ["train/loss", "val/top 5", "a.b-c_d:e", "größe/误差", "x" * 250, "a/..b"])
def test_a_name_that_mlflow_accepts_is_unchanged(name: str) -> None:
    assert store.sanitize_name(name) == name


@pytest.mark.parametrize(
    "refused, begins",
    [
        ("acc@1", "acc_1-"),
        ("loss (train)", "loss _train_-"),
        ("/train//loss/", "train/loss-"),
        ("../../etc", "etc-"),
        ("", "_-"),
        (".", "_-"),
        ("x" * 251, "x" * 245 + "-"),
        ("a\ud800", "a_-"),
    ],
)
def test_any_other_name_is_rewritten_by_the_stated_rule(refused: str, begins: str) -> None:
    rewritten = store.sanitize_name(refused)
    assert rewritten.startswith(begins)
    assert len(rewritten) == len(begins) + 4
    assert store.sanitize_name(rewritten) == rewritten


def test_two_refused_names_stay_different() -> None:
    assert store.sanitize_name("acc@1") != store.sanitize_name("acc#1")


def test_params_look_as_in_yaml_and_long_ones_are_visibly_cut() -> None:
    assert [store.sanitize_param(value) for value in (True, None, 1e-3, [1, "a"], "text", 0)] == [
        "true",
        "null",
        "0.001",
        '[1, "a"]',
        "text",
        "0",
    ]
    assert store.sanitize_param("x" * 6_000) == "x" * 6_000
    assert store.sanitize_param("x" * 6_001) == "x" * 5_997 + "..."
