"""What a callback can do at every optimiser step."""

from typing import Any

import pytorch_lightning as pl


class StepCallback(pl.Callback):
    """Lightning's batch hooks run once a chunk of steps; these run at every step of a Learner.

    (`on_before_optimizer_step` is Lightning's own and also runs at every step.) A LightningModule of the user's own
    knows nothing of them: there `after_optimizer_step` follows each batch that ended in a step.
    """

    _steps_seen = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._steps_seen = trainer.global_step

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        if not calls_step_callbacks(pl_module) and trainer.global_step > self._steps_seen:
            self._steps_seen = trainer.global_step
            self.after_optimizer_step(trainer, pl_module)

    def after_optimizer_step(self, trainer: pl.Trainer, learner: pl.LightningModule) -> None:
        """The weights have changed; `trainer.global_step` counts this step."""


def calls_step_callbacks(module: pl.LightningModule) -> bool:
    """Whether the module is a Learner, as far as a callback has to know."""
    return getattr(module, "calls_step_callbacks", False)
