"""Our callbacks around a LightningModule of the user's own, with Lightning's own loop."""

from collections.abc import Callable
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from pipeline.errors import TrainingFailed
from pipeline.training.callbacks.averaging import EMA
from pipeline.training.callbacks.nan import StopOnNaN


class Line(pl.LightningModule):
    """As in Lightning's first example; remembers its weights after every step, and those that are judged."""

    def __init__(self, broken_at: int | None = None) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 1)
        self.broken_at = broken_at
        self.trained: list[Tensor] = []
        self.judged: list[Tensor] = []

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        inputs, targets = batch
        loss = (self.layer(inputs).squeeze(1) - targets).square().mean()
        return loss * float("nan") if self.global_step == self.broken_at else loss

    def on_train_batch_end(self, *_: Any) -> None:
        self.trained.append(self.layer.weight.detach().clone())

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.judged.append(self.layer.weight.detach().clone())

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.fixture
def fit(tmp_path: Any) -> Callable[..., Line]:
    def run(module: Line, *callbacks: pl.Callback) -> Line:
        torch.manual_seed(0)
        inputs = torch.randn(40, 3)
        loader = DataLoader(TensorDataset(inputs, inputs.sum(1)), batch_size=10)
        trainer = pl.Trainer(
            max_epochs=1,
            accelerator="cpu",
            callbacks=list(callbacks),
            num_sanity_val_steps=0,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            default_root_dir=tmp_path,
        )
        trainer.fit(module, loader, loader)
        return module

    return run


def test_an_ema_of_a_users_own_module_is_evaluated_and_training_keeps_its_own_weights(fit: Callable[..., Line]) -> None:
    module = Line()
    average = module.layer.weight.detach().clone()
    fit(module, EMA(decay=0.9))
    for step, weights in enumerate(module.trained, start=1):
        average.lerp_(weights, 1 - min(0.9, (1 + step) / (10 + step)))
    assert len(module.trained) == 4
    torch.testing.assert_close(module.judged[0], average)
    assert torch.equal(module.layer.weight, module.trained[-1])
    assert not torch.equal(average, module.trained[-1])


def test_a_nan_loss_of_a_users_own_module_stops_training_before_the_weights_change(fit: Callable[..., Line]) -> None:
    module = Line(broken_at=2)
    with pytest.raises(TrainingFailed, match=r"loss is nan at step 2 .* in layer\.(weight|bias)"):
        fit(module, StopOnNaN())
    assert torch.isfinite(module.layer.weight).all()
