"""Each fault from inputs made by hand; the trainings are in tests/end_to_end/test_diagnose.py."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pipeline.diagnosis.advice import merge_overrides
from pipeline.diagnosis.checks import run_checks
from pipeline.diagnosis.inputs import DiagnosisInputs, DuplicateCount, PredictorOutputs, SplitOutputs

CLASSES = ("cat", "dog")
SETTINGS: dict[str, Any] = {
    "optimizer.learning_rate": 0.01,
    "trainer.max_epochs": 10,
    "trainer.max_steps": -1,
    "model.dropout": 0.0,
    "model.widths": [16, 32],
    "callbacks.early_stopping.patience": 5,
}
CALM = (0.5, 0.3, 0.22, 0.2, 0.195, 0.194)


def scored(accuracy: float, *, size: int = 400, confidence: float | None = None, seed: int = 0) -> SplitOutputs:
    """Return outputs of this accuracy, with the same confidence unless given."""
    generator = np.random.default_rng(seed)
    targets = np.arange(size) % 2
    right = generator.permutation(size) < accuracy * size
    said = np.where(right, targets, 1 - targets)
    outputs = np.full((size, 2), 1 - (confidence or accuracy))
    outputs[np.arange(size), said] = confidence or accuracy
    return SplitOutputs(outputs, targets, -np.log(outputs[np.arange(size), targets] + 1e-9), np.arange(size))


def wavering(accuracy: float, *, seed: int = 0, size: int = 400) -> SplitOutputs:
    """Wrong where hardly sure."""
    outputs_of = scored(accuracy, size=size, seed=seed, confidence=0.95)
    outputs = np.where(outputs_of.correct[:, None], outputs_of.outputs, 0.5 + 0.1 * (outputs_of.outputs - 0.5))
    return replace(outputs_of, outputs=outputs)


def pair(train: float, validation: float, **more: Any) -> PredictorOutputs:
    return PredictorOutputs(scored(train, seed=1, **more), scored(validation, seed=2, **more))


def inputs(network: PredictorOutputs | None, *, losses: tuple[float, ...] = CALM, **more: Any) -> DiagnosisInputs:
    return DiagnosisInputs(
        **{
            "settings": SETTINGS,
            "curves": {"val/loss": [(10 * epoch, loss) for epoch, loss in enumerate(losses, start=1)]},
            "kind": "image",
            "class_names": CLASSES,
            "network": network,
            "neighbours": PredictorOutputs(wavering(0.9, seed=1), wavering(0.9, seed=2)),
            "duplicates": {name: DuplicateCount(0, 0, 400) for name in ("train", "validation", "test")},
            "counts": np.array([200, 200]),
            "weight_change": 1.0,
            **more,
        }
    )


def faults(found: DiagnosisInputs) -> list[str]:
    return [each.name for each in run_checks(found)]


def test_a_good_network_has_no_findings() -> None:
    assert faults(inputs(pair(0.97, 0.96))) == []


def test_a_gap_between_the_parts_is_overfitting_and_asks_for_restraint() -> None:
    (found,) = run_checks(inputs(pair(1.0, 0.85)))
    assert found.name == "overfitting"
    assert found.evidence[0] == "100.0% on its 400 training samples, 85.0% on 400 validation samples"
    assert found.overrides == ("callbacks=[default,augmentation]",)


def test_a_gap_that_may_be_chance_is_none() -> None:
    few = PredictorOutputs(scored(1.0, size=60), scored(0.9, size=20))
    assert faults(inputs(few, neighbours=few)) == []


def test_a_network_below_its_neighbours_underfits() -> None:
    (found,) = run_checks(inputs(pair(0.6, 0.6)))
    assert found.name == "underfitting" and found.overrides == ("model.widths=[64,128]",)
    (found,) = run_checks(inputs(pair(0.6, 0.6), settings=SETTINGS | {"regularizer.l2.strength": 9.0}))
    assert found.overrides == ("regularizer=none",)


def test_weights_that_hardly_moved_speak_of_short_steps() -> None:
    (found,) = run_checks(inputs(pair(0.6, 0.6), weight_change=0.01))
    assert found.name == "learning rate too low" and found.overrides == ("optimizer.learning_rate=0.3",)


@pytest.mark.parametrize(
    "more",
    [
        {"nan_message": "the loss is nan at step 11"},
        {"losses": (0.6, float("nan"))},
        {"losses": (7.0, 2.0, 0.7, 0.69)},
        {"losses": (0.6, 0.69, 1.4, 0.69)},
    ],
)
def test_a_loss_that_ran_away_speaks_of_long_steps(more: dict[str, Any]) -> None:
    (found,) = run_checks(inputs(pair(0.5, 0.5), **more))
    assert found.name == "learning rate too high" and found.overrides == ("optimizer.learning_rate=0.001",)


def test_a_loss_that_still_falls_at_the_end_wants_more_epochs() -> None:
    (found,) = run_checks(inputs(pair(0.95, 0.95), losses=(0.6, 0.4, 0.3)))
    assert found.name == "stopped too early" and found.overrides == ("trainer.max_epochs=40",) and not found.resumes
    (found,) = run_checks(
        inputs(pair(0.95, 0.95), losses=(0.6, 0.4, 0.3), settings=SETTINGS | {"scheduler": "constant"})
    )
    assert found.resumes


def test_probabilities_that_are_too_high_or_too_low_are_miscalibrated() -> None:
    too_sure, too_modest = pair(0.9, 0.9, confidence=0.999), pair(0.95, 0.95, confidence=0.6)
    (found,) = run_checks(inputs(too_sure))
    assert found.name == "miscalibration" and "overconfident" in found.explanation
    assert found.overrides == ("task.label_smoothing=0.05",)
    (found,) = run_checks(inputs(too_modest, settings=SETTINGS | {"task.label_smoothing": 0.4}))
    assert "underconfident" in found.explanation and found.overrides == ("task.label_smoothing=0",)


def test_few_samples_are_off_by_themselves() -> None:
    few = PredictorOutputs(scored(0.95, size=20, confidence=0.85), scored(0.95, size=20, confidence=0.85))
    assert faults(inputs(few, neighbours=few)) == []


def test_copies_across_parts_are_leakage_unless_rows_are_alike_by_chance() -> None:
    clean = inputs(pair(0.97, 0.96)).duplicates
    leaked = clean | {"test": DuplicateCount(40, 40, 400)}
    (found,) = run_checks(inputs(pair(0.97, 0.96), duplicates=leaked))
    assert found.name == "leakage" and found.overrides == ("data.on_copies=drop",)
    assert "40 of 400 test samples (10.0%)" in found.evidence[0]
    coarse = {
        "train": DuplicateCount(44, 38, 400),
        "validation": DuplicateCount(40, 33, 400),
        "test": DuplicateCount(39, 35, 400),
    }
    assert faults(inputs(pair(0.97, 0.96), duplicates=coarse)) == []
    assert faults(inputs(pair(0.97, 0.96), duplicates=clean | {"test": DuplicateCount(1, 1, 30)})) == []


def test_a_rare_class_that_is_not_found_is_named() -> None:
    targets = np.array([0] * 380 + [1] * 20)
    outputs = np.tile([0.97, 0.03], (400, 1))
    blind = SplitOutputs(outputs, targets, np.zeros(400), np.arange(400))
    rare = inputs(PredictorOutputs(blind, blind), counts=np.array([380, 20]), neighbours=PredictorOutputs(blind, blind))
    (found,) = [each for each in run_checks(rare) if each.name == "class imbalance"]
    assert "dog: 20 of 400 training samples (5.0%), and 0 of 20 validation samples found" in found.evidence
    assert found.overrides[:2] == ("checkpoint.monitor=val/f1_macro", "checkpoint.mode=max")
    weighted = replace(rare, settings=SETTINGS | {"task.class_weights": None})
    assert run_checks(weighted)[0].overrides == ("task.class_weights=balanced",)
    assert "class imbalance" not in faults(replace(rare, counts=np.array([200, 200])))


def test_labels_that_contradict_clear_neighbours_are_suspicious_the_worst_first() -> None:
    around = scored(0.85, confidence=0.95)
    by_heart = pair(1.0, 0.84)
    found = run_checks(inputs(by_heart, neighbours=PredictorOutputs(around, scored(0.85))))
    assert [each.name for each in found] == ["label noise", "overfitting"]
    suspects = found[0].suspects
    assert {each.row for each in suspects} == set(np.flatnonzero(~around.correct).tolist())
    assert all(each.label != each.suggested and each.confidence == pytest.approx(0.9) for each in suspects)


def test_classes_that_overlap_are_no_wrong_labels() -> None:
    generator = np.random.default_rng(0)
    sure = generator.uniform(0.5, 1.0, 2_000)
    targets = (generator.random(2_000) < sure).astype(np.int64)
    honest = SplitOutputs(
        np.stack([1 - sure, sure], axis=1), targets, -np.log(np.maximum(sure, 1e-9)), np.arange(2_000)
    )
    assert faults(inputs(PredictorOutputs(honest, honest), neighbours=PredictorOutputs(honest, honest))) == []


def test_numbers_are_asked_what_makes_sense_for_them() -> None:
    def numbers(error: float, seed: int) -> SplitOutputs:
        generator = np.random.default_rng(seed)
        true = generator.normal(size=(400, 1))
        said = true + error * generator.normal(size=(400, 1))
        return SplitOutputs(said, true, np.square(said - true)[:, 0], np.arange(400))

    def predicted(train: float, validation: float) -> DiagnosisInputs:
        return inputs(
            PredictorOutputs(numbers(train, 1), numbers(validation, 2)),
            class_names=(),
            counts=np.zeros(0, dtype=np.int64),
            neighbours=PredictorOutputs(numbers(0.5, 1), numbers(0.5, 2)),
        )

    assert faults(predicted(0.4, 0.4)) == []
    assert faults(predicted(0.1, 0.9)) == ["overfitting"]
    assert faults(predicted(0.9, 0.9)) == ["underfitting"]


def test_what_is_tried_next_keeps_the_other_overrides_of_the_run() -> None:
    before = ["model=mlp", "regularizer=l2", "regularizer.l2.strength=9", "optimizer.learning_rate=1", "~callbacks.ema"]
    assert merge_overrides(before, ["regularizer=none", "optimizer.learning_rate=0.1"]) == [
        *("model=mlp", "~callbacks.ema", "regularizer=none", "optimizer.learning_rate=0.1")
    ]


def test_a_module_of_the_users_own_is_judged_by_its_curves() -> None:
    bare = DiagnosisInputs(settings={}, curves={"val/loss": [(1, 0.5), (2, float("inf"))]})
    assert faults(bare) == ["learning rate too high"]
    assert faults(DiagnosisInputs(settings={}, curves={})) == []
