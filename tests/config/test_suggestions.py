import pytest

from pipeline.config.suggestions import nearest_names

KEYS = ["max_epochs", "max_steps", "learning_rate", "weight_decay", "batch_size", "precision"]


@pytest.mark.parametrize(
    "word, expected",
    [
        ("max_epoch", ["max_epochs"]),
        ("MAX_EPOCHS", ["max_epochs"]),
        ("lr", ["learning_rate"]),
        ("wd", ["weight_decay"]),
        ("epochs", ["max_epochs"]),
        ("batchsize", ["batch_size"]),
        ("zebra", []),
    ],
)
def test_slips_initials_and_parts_of_names_are_understood(word: str, expected: list[str]) -> None:
    assert nearest_names(word, KEYS) == expected


def test_a_far_match_does_not_stand_beside_a_near_one() -> None:
    assert nearest_names("max_epoch", ["max_steps", "max_epochs", "epoch_max"]) == ["max_epochs"]
