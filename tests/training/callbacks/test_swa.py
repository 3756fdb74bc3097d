"""Stochastic weight averaging: of which weights, with which statistics, and the same after a resume."""

from contextlib import nullcontext

import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from pipeline.errors import ConfigError
from pipeline.lifecycle.trainer import check_single_average
from pipeline.training import checkpoints
from pipeline.training.callbacks.averaging import EMA, SWA, recompute_batch_norm
from pipeline.training.callbacks.hooks import StepCallback

# 20 steps an epoch


def swa(**changes):
    return SWA(**({"start_share": 0.5, "every_n_steps": None, "batch_norm_steps": 100} | changes))


class Weights(StepCallback):
    """Remembers the head's weights after every step, and those that were judged."""

    def __init__(self):
        self.trained, self.judged = [], []

    def after_optimizer_step(self, trainer, learner):
        self.trained.append(head(learner).weight.detach().clone())

    def on_validation_batch_start(self, trainer, pl_module, *_):
        self.judged.append(head(pl_module).weight.detach().clone())


def head(learner):
    return [each for each in learner.modules() if isinstance(each, nn.Linear)][-1]


def same_tensors(one, other):
    assert one.keys() == other.keys()
    return all(torch.equal(one[name], other[name]) for name in one)


def test_swa_evaluates_the_mean_of_the_last_epochs_ends_and_training_goes_on_with_its_own_weights(fit, tmp_path):
    weights = Weights()
    _, learner, _ = fit(tmp_path / "with", epochs=4, callbacks=lambda: [swa(), weights])
    _, without, _ = fit(tmp_path / "without", epochs=4)
    ends = [weights.trained[20 * epoch - 1] for epoch in (1, 2, 3, 4)]
    for epoch, expected in enumerate([ends[0], ends[1], sum(ends[1:3]) / 2, sum(ends[1:]) / 3]):
        torch.testing.assert_close(weights.judged[2 * epoch], expected)
    assert same_tensors(learner.state_dict(), without.state_dict())


def test_swa_recomputes_batch_norm_for_the_averaged_weights(fit, tmp_path):
    _, learner, _ = fit(tmp_path / "run", epochs=4, callbacks=lambda: [swa()])
    kept = checkpoints.load_checkpoint(checkpoints.list_checkpoints(tmp_path / "run")[0])["evaluation_state_dict"]
    learner.load_state_dict(kept)
    norms = [each for each in learner.modules() if isinstance(each, nn.BatchNorm2d)]
    loader = learner.trainer.train_dataloader
    loader._epoch = lambda: 3
    recompute_batch_norm(learner, norms, (batch.inputs for batch in loader.batches()), learner.global_batch)
    for name, value in learner.state_dict().items():
        torch.testing.assert_close(value, kept[name])


def test_recomputed_statistics_are_the_mean_over_all_batches_and_modes_stay():
    norm, dropout = nn.BatchNorm1d(1, momentum=0.3), nn.Dropout(0.5)
    network = nn.Sequential(dropout, norm).train()
    recompute_batch_norm(
        network, [norm], iter([torch.tensor([[0.0], [2.0]]), torch.tensor([[4.0], [8.0]])]), lambda rows: nullcontext()
    )
    assert norm.running_mean.tolist() == [3.5] and norm.running_var.tolist() == [5.0]
    assert norm.momentum == 0.3 and norm.training and dropout.training


@pytest.mark.parametrize("step", [20, 45, 79])
def test_a_resumed_run_with_swa_matches_the_uninterrupted_run(fit, tmp_path, step):
    settings = {"epochs": 4, "callbacks": lambda: [swa(start_share=0.3)]}
    _, whole, whole_metrics = fit(tmp_path / "whole", **settings)
    _, _, before = fit(tmp_path / "parts", interrupt_at=step, **settings)
    _, resumed, after = fit(tmp_path / "parts", **settings)
    assert same_tensors(whole.state_dict(), resumed.state_dict())
    final, again = (
        checkpoints.load_checkpoint(checkpoints.list_checkpoints(tmp_path / part)[0]) for part in ("whole", "parts")
    )
    assert same_tensors(final["evaluation_state_dict"], again["evaluation_state_dict"])
    assert dict(before.named("val/loss")) | dict(after.named("val/loss")) == dict(whole_metrics.named("val/loss"))


def test_swa_can_average_within_an_epoch(fit, tmp_path):
    weights = Weights()
    fit(tmp_path / "run", epochs=1, callbacks=lambda: [swa(every_n_steps=8), weights])
    torch.testing.assert_close(weights.judged[0], weights.trained[15])  # step 8 lies before the half, 24 is never
    _, _, metrics = fit(tmp_path / "late", epochs=1, callbacks=lambda: [swa(every_n_steps=50)])
    assert metrics.named("val/loss")


def test_swa_averages_a_users_own_module_too(tmp_path):
    class Line(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer, self.ends, self.judged = nn.Linear(3, 1), [], []

        def training_step(self, batch, batch_idx):
            return (self.layer(batch[0]) - 1).square().mean()

        def validation_step(self, batch, batch_idx):
            self.judged.append(self.layer.weight.detach().clone())

        def on_train_epoch_end(self):
            self.ends.append(self.layer.weight.detach().clone())

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    module = Line()
    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.randn(20, 3)), batch_size=10)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "num_sanity_val_steps": 0}
    trainer = pl.Trainer(max_epochs=4, accelerator="cpu", callbacks=[swa()], default_root_dir=tmp_path, **quiet)
    trainer.fit(module, data, data)
    torch.testing.assert_close(module.judged[-1], sum(module.ends[1:]) / 3)


def test_two_averages_of_weights_are_refused():
    with pytest.raises(ConfigError, match=r"EMA and SWA each evaluate .* ~callbacks\.ema"):
        check_single_average([EMA(decay=0.9), swa()])
