import pytest
import torch

from pipeline.training.callbacks.hooks import StepCallback
from pipeline.training.callbacks.monitors import GradientNorm


class Own(StepCallback):
    """The norm of what clipping left, for each step."""

    def __init__(self):
        self.norms = {}

    def after_optimizer_step(self, trainer, learner):
        self.norms[trainer.global_step] = torch.cat([each.grad.flatten() for each in learner.parameters()]).norm()


def test_the_gradient_norm_is_recorded_at_points_of_logging(fit):
    own = Own()
    _, _, metrics = fit(callbacks=lambda: [own, GradientNorm()], learner={"gradient_clip_val": None}, epochs=1,
                        log_every_n_steps=8)  # fmt: skip
    assert metrics.named("train/gradient_norm") == [
        (8, pytest.approx(float(own.norms[8]), rel=1e-5)),
        (16, pytest.approx(float(own.norms[16]), rel=1e-5)),
    ]


def test_the_recorded_gradient_norm_is_that_before_clipping(fit):
    own = Own()
    _, _, metrics = fit(callbacks=lambda: [own, GradientNorm()], learner={"gradient_clip_val": 1e-3}, epochs=1,
                        log_every_n_steps=8)  # fmt: skip
    assert own.norms[8] == pytest.approx(1e-3, rel=0.01)
    assert metrics.named("train/gradient_norm")[0][1] > 1e-2
