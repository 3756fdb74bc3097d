"""What a callback can do at every optimiser step."""

import pytorch_lightning as pl

from pipeline.spec import Batch


class StepCallback(pl.Callback):
    """Lightning's batch hooks run once a chunk of steps; these run at every step of a Learner.

    (`on_before_optimizer_step` is Lightning's own and also runs at every step.)
    """

    def transform_batch(self, trainer: pl.Trainer, batch: Batch) -> Batch:
        """A new batch in place of this one, on the device, before the network sees it.

        torch's generators have just been seeded with (seed, step), equally on all processes.
        """
        return batch

    def after_optimizer_step(self, trainer: pl.Trainer, learner: pl.LightningModule) -> None:
        """The weights have changed; `trainer.global_step` counts this step."""
