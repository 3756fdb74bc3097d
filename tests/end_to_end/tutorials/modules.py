"""LightningModules of the shapes that Lightning's guides show. Nothing in here knows of this program.

Batches are (inputs, targets); inputs have any shape and are flattened, targets are two classes.
"""

from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics.classification import MulticlassAccuracy


def flat(batch: Any, features: int) -> tuple[Tensor, Tensor]:
    inputs, targets = batch
    return inputs.float().flatten(1)[:, :features], targets % 2


class TrainingLossOnly(pl.LightningModule):
    """The first example of every guide: no validation, no test, the loss of each batch."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Linear(4, 2), nn.Linear(2, 4)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        inputs, _ = flat(batch, 4)
        loss = F.mse_loss(self.decoder(self.encoder(inputs)), inputs)
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=1e-2)


class EpochLossOnly(TrainingLossOnly):
    """The same, averaged over the epoch."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        inputs, _ = flat(batch, 4)
        loss = F.mse_loss(self.decoder(self.encoder(inputs)), inputs)
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss


class Silent(TrainingLossOnly):
    """Logs nothing at all."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        inputs, _ = flat(batch, 4)
        return F.mse_loss(self.decoder(self.encoder(inputs)), inputs)


class Classifier(pl.LightningModule):
    """val_loss and val_acc, hyperparameters saved, a schedule that waits for val_loss."""

    def __init__(self, hidden: int = 8, lr: float = 0.05) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.network = nn.Sequential(nn.Linear(4, hidden), nn.ReLU(), nn.Linear(hidden, 2))

    def forward(self, inputs: Tensor) -> Tensor:
        scores: Tensor = self.network(inputs)
        return scores

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        inputs, targets = flat(batch, 4)
        loss = F.cross_entropy(self(inputs), targets)
        self.log("train_loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        inputs, targets = flat(batch, 4)
        scores = self(inputs)
        self.log("val_acc", (scores.argmax(1) == targets).float().mean())
        self.log("val_loss", F.cross_entropy(scores, targets), prog_bar=True)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        inputs, targets = flat(batch, 4)
        scores = self(inputs)
        self.log_dict(
            {"test_loss": F.cross_entropy(scores, targets), "test_acc": (scores.argmax(1) == targets).float().mean()}
        )

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.hparams["lr"])
        schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=1)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "monitor": "val_loss"}}


class SharedStep(Classifier):
    """One step for all parts with the name put together, a torchmetrics object, a schedule a step."""

    def __init__(self, lr: float = 0.05) -> None:
        super().__init__(lr=lr)
        self.accuracy = nn.ModuleDict({f"{part}_metric": MulticlassAccuracy(2) for part in ("train", "val", "test")})

    def _step(self, batch: Any, part: str) -> Tensor:
        inputs, targets = flat(batch, 4)
        scores = self(inputs)
        loss = F.cross_entropy(scores, targets)
        metric = self.accuracy[f"{part}_metric"]
        metric(scores, targets)
        self.log(f"{part}/acc", metric, on_step=False, on_epoch=True)
        self.log(f"{part}/cross_entropy_loss", loss, on_step=part == "train", on_epoch=True)
        return loss

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self._step(batch, "train")

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self._step(batch, "val")

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self._step(batch, "test")

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.01, momentum=0.9)
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=self.hparams["lr"], total_steps=steps)
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]


class AtTheEpochsEnd(Classifier):
    """Collects what the steps found and logs it once, and not in Lightning's sanity check."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[Tensor] = []

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        inputs, targets = flat(batch, 4)
        self.found.append(F.cross_entropy(self(inputs), targets))

    def on_validation_epoch_end(self) -> None:
        if not self.trainer.sanity_checking:
            self.log("avg_val_loss", torch.stack(self.found).mean())
        self.found.clear()

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), lr=0.05)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, step_size=1)]


class WithObjects(Classifier):
    """Saves a loss and a function among its hyperparameters, which no checkpoint of plain values can hold."""

    def __init__(self, loss: nn.Module | None = None, activation: Callable[[Tensor], Tensor] = torch.relu) -> None:
        loss = nn.CrossEntropyLoss(label_smoothing=0.1) if loss is None else loss
        super().__init__()
        self.save_hyperparameters()
        self.hparams["lr"] = 0.05
        self.loss, self.activation = loss, activation

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        inputs, targets = flat(batch, 4)
        loss: Tensor = self.loss(self(self.activation(inputs)), targets)
        return loss


class Adversaries(pl.LightningModule):
    """Two optimisers, each stepped by hand; two losses, of the epoch."""

    def __init__(self, latent: int = 2) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.automatic_optimization = False
        self.generator = nn.Sequential(nn.Linear(latent, 8), nn.ReLU(), nn.Linear(8, 4))
        self.discriminator = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))

    def training_step(self, batch: Any, batch_idx: int) -> None:
        real, _ = flat(batch, 4)
        first, second = self.optimizers()
        noise = torch.randn(len(real), self.hparams["latent"], device=self.device)
        ones, zeros = torch.ones(len(real), 1), torch.zeros(len(real), 1)
        self.toggle_optimizer(first)
        g_loss = F.binary_cross_entropy_with_logits(self.discriminator(self.generator(noise)), ones)
        first.zero_grad()
        self.manual_backward(g_loss)
        first.step()
        self.untoggle_optimizer(first)
        self.toggle_optimizer(second)
        fake = self.discriminator(self.generator(noise).detach())
        d_loss = F.binary_cross_entropy_with_logits(self.discriminator(real), ones)
        d_loss = (d_loss + F.binary_cross_entropy_with_logits(fake, zeros)) / 2
        second.zero_grad()
        self.manual_backward(d_loss)
        second.step()
        self.untoggle_optimizer(second)
        self.log_dict({"g_loss": g_loss, "d_loss": d_loss}, prog_bar=True, on_epoch=True)

    def configure_optimizers(self) -> Any:
        return (
            torch.optim.Adam(self.generator.parameters(), lr=0.01),
            torch.optim.Adam(self.discriminator.parameters(), lr=0.01),
        )


class WithLoaders(TrainingLossOnly):
    """Brings its own loader, as the oldest guides do."""

    def train_dataloader(self) -> Any:
        return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.randn(64, 4), torch.zeros(64)))


class TwoLoaders(Classifier):
    """For data with several loaders to validate on."""

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        super().validation_step(batch, batch_idx)

    def configure_optimizers(self) -> Any:
        return torch.optim.AdamW(self.parameters(), lr=self.hparams["lr"])


class AccuracyAlone(Classifier):
    """Judged by what is better when it is higher."""

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        inputs, targets = flat(batch, 4)
        self.log("val_acc", (self(inputs).argmax(1) == targets).float().mean())

    def configure_optimizers(self) -> Any:
        return [torch.optim.AdamW(self.parameters(), lr=self.hparams["lr"])]
