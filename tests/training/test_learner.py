import pytest
import torch
from pytorch_lightning.callbacks import EarlyStopping

from pipeline.errors import TrainingFailed
from pipeline.training.callbacks.averaging import EMA
from pipeline.training.callbacks.hooks import BatchTransform, StepCallback
from pipeline.training.callbacks.nan import StopOnNaN
from pipeline.training.regularizers import L1, L2, penalized_weights


def test_a_learner_learns_digits(fit):
    trainer, _, _ = fit(epochs=6)
    assert trainer.callback_metrics["val/accuracy"] > 0.9


def test_metrics_are_logged_at_optimiser_steps(fit):
    _, _, metrics = fit(epochs=2)
    assert [step for step, _ in metrics.named("train/loss")] == [8, 16, 20, 24, 32, 40]
    assert [step for step, _ in metrics.named("val/accuracy")] == [20, 40]
    assert [step for step, _ in metrics.named("train/accuracy_epoch")] == [20, 40]


def test_the_loss_of_an_epoch_is_the_mean_over_its_intervals(fit):
    _, _, metrics = fit(epochs=1)
    (_, first), (_, second), (_, third) = metrics.named("train/loss")
    [(_, whole)] = metrics.named("train/loss_epoch")
    assert whole == pytest.approx((8 * first + 8 * second + 4 * third) / 20, rel=1e-6)


def test_max_steps_ends_training_in_mid_epoch_and_the_last_weights_are_evaluated(fit):
    trainer, _, metrics = fit(epochs=5, max_steps=27)
    assert trainer.global_step == 27
    assert [step for step, _ in metrics.named("val/loss")] == [20, 27]


def test_accumulated_micro_batches_have_the_gradient_of_the_large_batch(fit, tmp_path):
    """Without batch norm's per-batch statistics and dropout, four quarters are the whole."""

    def plain(data):
        body = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
        body.load_state_dict({"1.weight": torch.zeros(10, 64), "1.bias": torch.zeros(10)})
        return body

    large = fit(tmp_path / "large", epochs=1, learner={"network": _scaled(plain(None))}, data={"batch_size": 200})
    small = fit(
        tmp_path / "small",
        epochs=1,
        learner={"network": _scaled(plain(None))},
        data={"batch_size": 50, "accumulate": 4},
    )
    assert large[0].global_step == small[0].global_step == 5
    for one, other in zip(large[1].parameters(), small[1].parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def _scaled(body):
    class Scaled(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.body = body

        def forward(self, inputs):
            return self.body(inputs.float() / 255)

    return Scaled()


def test_gradients_are_clipped_to_the_given_norm(fit):
    norms = []

    class Norms(StepCallback):
        def after_optimizer_step(self, trainer, learner):
            gradients = [parameter.grad for parameter in learner.parameters()]
            norms.append(torch.nn.utils.get_total_norm(gradients).item())

    fit(epochs=1, callbacks=lambda: [Norms()], learner={"gradient_clip_val": 0.01})
    assert max(norms) == pytest.approx(0.01, rel=1e-3)


def test_bf16_autocast_sees_the_weights_of_every_step(fit, tmp_path):
    """Autocast caches its copies of the weights; stale ones would not learn at all within a chunk."""
    _, _, chunked = fit(tmp_path / "a", epochs=1, precision="bf16-mixed", data={"log_every_n_steps": 20})
    _, _, single = fit(tmp_path / "b", epochs=1, precision="bf16-mixed", data={"log_every_n_steps": 1})
    assert dict(chunked.named("val/loss")) == dict(single.named("val/loss"))


def test_training_stops_on_nan_and_names_the_step_and_the_gradient(fit):
    class Poison(BatchTransform):
        def transform_batch(self, trainer, batch):
            if trainer.global_step != 5:
                return batch
            return type(batch)(batch.inputs * float("nan"), batch.targets, batch.ids)

    with pytest.raises(TrainingFailed, match=r"the loss is nan at step 5 .*largest gradient is nan, in network\."):
        fit(callbacks=lambda: [Poison(), StopOnNaN()])


def test_early_stopping_stops_training(fit):
    trainer, _, _ = fit(epochs=30, callbacks=lambda: [EarlyStopping("val/loss", patience=1, min_delta=10.0)])
    assert trainer.current_epoch == 2


def test_the_ema_is_evaluated_while_training_goes_on_with_its_own_weights(fit, tmp_path):
    _, with_average, averaged = fit(tmp_path / "with", callbacks=lambda: [EMA(decay=0.9)])
    _, without, plain = fit(tmp_path / "without")
    for one, other in zip(with_average.parameters(), without.parameters(), strict=True):
        assert torch.equal(one, other)
    assert dict(averaged.named("val/loss")) != dict(plain.named("val/loss"))


def test_penalties_count_weights_and_leave_out_biases():
    network = torch.nn.Linear(2, 1)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([[3.0, -4.0]]))
        network.bias.fill_(100.0)
    assert L1(strength=0.1).penalty(network).item() == pytest.approx(0.7)
    assert L2(strength=0.1).penalty(network).item() == pytest.approx(1.25)
    assert len(list(penalized_weights(network))) == 1


def test_regularised_weights_are_smaller(fit, tmp_path):
    _, free, _ = fit(tmp_path / "free")
    _, tied, _ = fit(tmp_path / "tied", learner={"regularizers": [L2(strength=0.1)]})
    size = lambda learner: sum(weight.square().sum().item() for weight in penalized_weights(learner))  # noqa: E731
    assert size(tied) < 0.5 * size(free)
