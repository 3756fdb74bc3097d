"""A resumed run is the uninterrupted run, to the last bit."""

from collections import Counter

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping

from pipeline.lifecycle.trainer import PRECISION_OF_WEIGHTS
from pipeline.training import checkpoints
from pipeline.training.callbacks.averaging import EMA
from pipeline.training.callbacks.checkpointing import Checkpointing
from pipeline.training.callbacks.monitors import LearningRate

# 20 steps an epoch, 3 epochs


def everything_on():
    return [EMA(decay=0.98), EarlyStopping("val/loss", patience=2), LearningRate()]


class Plateau(pl.Callback):
    """Counts validations, as what waits for a metric does."""

    def __init__(self):
        self.seen = 0

    def on_validation_end(self, trainer, *_):
        self.seen += not trainer.sanity_checking

    def state_dict(self):
        return {"seen": self.seen}

    def load_state_dict(self, state):
        self.seen = state["seen"]


class SignalIn(pl.Callback):
    """Comes while Lightning is in the hook of that name, at the end of the first epoch."""

    def __init__(self, hook):
        def send(trainer, *_):
            (saver,) = [each for each in trainer.callbacks if isinstance(each, Checkpointing)]
            if trainer.global_step == 20:
                saver.interruption.signal_number = 15

        setattr(self, hook, send)


def same_tensors(one, other):
    assert one.keys() == other.keys()
    return all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("step", [1, 8, 19, 20, 21, 45, 59, 60])
def test_a_run_resumed_at_any_step_matches_the_uninterrupted_run(fit, tmp_path, step):
    _, whole, whole_metrics = fit(tmp_path / "whole", callbacks=everything_on)
    _, _, before = fit(tmp_path / "parts", callbacks=everything_on, interrupt_at=step)
    trainer, resumed, after = fit(tmp_path / "parts", callbacks=everything_on)

    assert trainer.global_step == 60
    assert same_tensors(whole.state_dict(), resumed.state_dict())
    final, again = (
        checkpoints.load_checkpoint(checkpoints.list_checkpoints(tmp_path / part)[0]) for part in ("whole", "parts")
    )
    assert same_tensors(final["evaluation_state_dict"], again["evaluation_state_dict"])
    for name in ("train/loss", "train/loss_epoch", "train/learning_rate", "val/accuracy", "val/loss"):
        assert dict(before.named(name)) | dict(after.named(name)) == dict(whole_metrics.named(name))


def test_a_run_resumed_with_accumulation_matches_the_uninterrupted_run(fit, tmp_path):
    settings = {"data": {"accumulate": 3}}  # 20 batches: six steps of three, one of two
    _, whole, _ = fit(tmp_path / "whole", **settings)
    fit(tmp_path / "parts", interrupt_at=10, **settings)
    trainer, resumed, _ = fit(tmp_path / "parts", **settings)
    assert trainer.global_step == 21
    assert same_tensors(whole.state_dict(), resumed.state_dict())


def test_a_run_resumed_in_mixed_precision_matches_the_uninterrupted_run(fit, tmp_path):
    _, whole, _ = fit(tmp_path / "whole", precision="bf16-mixed")
    fit(tmp_path / "parts", precision="bf16-mixed", interrupt_at=33)
    _, resumed, _ = fit(tmp_path / "parts", precision="bf16-mixed")
    assert same_tensors(whole.state_dict(), resumed.state_dict())


@pytest.mark.parametrize("precision", PRECISION_OF_WEIGHTS)
def test_a_run_resumed_with_weights_of_another_precision_matches_the_uninterrupted_run(fit, tmp_path, precision):
    make = PRECISION_OF_WEIGHTS[precision]
    _, whole, _ = fit(tmp_path / "whole", plugins=[make()], callbacks=everything_on)
    fit(tmp_path / "parts", plugins=[make()], callbacks=everything_on, interrupt_at=33)
    _, resumed, _ = fit(tmp_path / "parts", plugins=[make()], callbacks=everything_on)
    assert {each.dtype for each in whole.parameters()} != {torch.float32}
    assert same_tensors(whole.state_dict(), resumed.state_dict())


def test_a_run_resumed_between_epochs_matches_the_uninterrupted_run(fit, tmp_path):
    _, whole, _ = fit(tmp_path / "whole")
    fit(tmp_path / "parts", checkpoint={"every_n_steps": 7}, interrupt_at=48)
    (tmp_path / "parts" / "step-00000048.ckpt").unlink()  # as if killed there: step 42 is the newest
    _, resumed, _ = fit(tmp_path / "parts")
    assert same_tensors(whole.state_dict(), resumed.state_dict())


def test_the_same_seed_gives_the_same_weights_twice(fit, tmp_path):
    _, first, _ = fit(tmp_path / "first")
    _, second, _ = fit(tmp_path / "second")
    assert same_tensors(first.state_dict(), second.state_dict())


def test_another_seed_gives_other_weights(fit, tmp_path):
    _, first, _ = fit(tmp_path / "first", epochs=1)
    _, second, _ = fit(tmp_path / "second", epochs=1, data={"seed": 1}, learner={"seed": 1})
    assert not same_tensors(first.state_dict(), second.state_dict())


@pytest.mark.parametrize(
    "hook", ["on_validation_start", "on_validation_batch_end", "on_validation_epoch_end", "on_train_epoch_end"]
)
def test_a_run_stopped_around_the_end_of_an_epoch_repeats_nothing_of_it(fit, tmp_path, hook):
    folder = tmp_path / "parts"
    _, whole, _ = fit(tmp_path / "whole")
    _, _, before = fit(folder, callbacks=lambda: [SignalIn(hook)], interrupt_at=1000)
    assert checkpoints.list_checkpoints(folder)[0].name == "step-00000020.ckpt"
    _, resumed, after = fit(folder)
    assert same_tensors(whole.state_dict(), resumed.state_dict())
    points = Counter((name, step) for step, values in before.rows + after.rows for name in values)
    assert [point for point, count in points.items() if count > 1 and not point[0].startswith("system/")] == []


@pytest.mark.parametrize("killed_after_epoch", [1, 2, 3])
def test_early_stopping_counts_no_epoch_twice(fit, tmp_path, killed_after_epoch):
    def impatient():
        return [EarlyStopping("val/loss", patience=2, min_delta=1000.0)]  # stops at the end of the third epoch

    folder = tmp_path / "parts"
    fit(folder, epochs=6, callbacks=impatient, checkpoint={"keep": 9})
    assert len(checkpoints.list_checkpoints(folder)) == 3
    for path in checkpoints.list_checkpoints(folder)[: 3 - killed_after_epoch]:
        path.unlink()
    trainer, _, _ = fit(folder, epochs=6, callbacks=impatient, checkpoint={"keep": 9})
    assert trainer.global_step == 60


@pytest.mark.parametrize("limit", [1, 19, 20, 33])
def test_a_run_that_stopped_at_its_limit_of_steps_matches_one_with_a_higher_limit_when_it_goes_on(fit, tmp_path, limit):
    settings = {"callbacks": lambda: [*everything_on(), Plateau()], "checkpoint": {"keep": 9}}
    _, whole, whole_metrics = fit(tmp_path / "whole", max_steps=50, **settings)
    fit(tmp_path / "parts", max_steps=limit, **settings)
    assert checkpoints.list_checkpoints(tmp_path / "parts")[0] == (tmp_path / "parts/best.ckpt").resolve()
    trainer, resumed, after = fit(tmp_path / "parts", max_steps=50, **settings)
    assert trainer.global_step == 50
    assert same_tensors(whole.state_dict(), resumed.state_dict())
    final, again = (checkpoints.load_checkpoint(tmp_path / part / "step-00000050.ckpt") for part in ("whole", "parts"))
    assert final["callbacks"].keys() == again["callbacks"].keys()
    assert str(final["callbacks"]) == str(again["callbacks"])
    means = dict(whole_metrics.named("train/loss_epoch"))  # added up in other portions, which ended at the limit
    assert all(mean == pytest.approx(means[step]) for step, mean in after.named("train/loss_epoch"))


def test_a_finished_run_that_is_lengthened_takes_the_schedule_of_its_new_length(fit, tmp_path):
    fit(tmp_path / "longer", epochs=2)
    _, _, lengthened = fit(tmp_path / "longer", epochs=3, callbacks=lambda: [LearningRate()])
    _, _, whole = fit(tmp_path / "whole", epochs=3, callbacks=lambda: [LearningRate()])

    rates, expected = dict(lengthened.named("train/learning_rate")), dict(whole.named("train/learning_rate"))
    assert rates == {step: rate for step, rate in expected.items() if step > 40}
    assert len(rates) > 1
