import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import LambdaCallback

from pipeline.training import learner as learner_module
from pipeline.training.engine import DirectEngine, LightningEngine


class Counts(pl.Callback):
    def __init__(self):
        self.seen = []

    def on_before_backward(self, trainer, pl_module, loss):
        self.seen.append(("before backward", float(loss.detach()) > 0))

    def on_after_backward(self, trainer, pl_module):
        self.seen.append(("after backward", any(each.grad is not None for each in pl_module.parameters())))

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        self.seen.append(("before update", isinstance(optimizer, torch.optim.Optimizer)))


@pytest.mark.parametrize("settings", [{"gradient_clip_val": None}, {"gradient_clip_val": 0.1}])
def test_the_direct_engine_trains_the_same_weights_as_lightnings(fit, tmp_path, monkeypatch, settings):
    def trained(way):
        monkeypatch.setattr(learner_module, "make_engine", way)
        return fit(tmp_path / way.__name__, epochs=2, learner=settings)

    fast, slow = trained(DirectEngine), trained(LightningEngine)
    assert fast[0].global_step == slow[0].global_step == 40
    for one, other in zip(fast[1].parameters(), slow[1].parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_callback_gets_its_hooks_at_every_step_in_lightnings_order(fit):
    counts = Counts()
    fit(epochs=1, callbacks=lambda: [counts])
    assert counts.seen == [("before backward", True), ("after backward", True), ("before update", True)] * 20


def test_a_hook_on_the_instance_of_a_callback_is_called_too(fit):
    losses = []
    callback = LambdaCallback(on_before_backward=lambda trainer, module, loss: losses.append(loss))
    fit(epochs=1, callbacks=lambda: [callback])
    assert len(losses) == 20
