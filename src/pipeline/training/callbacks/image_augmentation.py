"""Training images changed at random, whole batches at once, on the device."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytorch_lightning as pl
import torch
from kornia.augmentation import AugmentationBase2D
from torch import Tensor, nn

from pipeline.errors import ConfigError
from pipeline.spec import Batch
from pipeline.training.callbacks.rand_augment import RandAugment
from pipeline.training.callbacks.transform import BatchTransform, own

# B batch of this process, W processes, C channels, H height, W width

Transform = AugmentationBase2D | RandAugment


class Augmentation(BatchTransform):
    """kornia's augmentations, one after the other, on pixels scaled to [0, 1]."""

    name = "augmentation"
    kinds = ("image",)

    def __init__(self, *, transforms: Mapping[str, nn.Module]) -> None:
        wrong = [name for name, each in transforms.items() if not isinstance(each, AugmentationBase2D | RandAugment)]
        if wrong:
            raise ConfigError(
                f"callbacks.augmentation.transforms.{wrong[0]} is not one of kornia's 2-D augmentations, such as "
                "kornia.augmentation.RandomAffine, nor RandAugment"
            )
        self.transforms: list[Transform] = [
            each
            for each in transforms.values()
            if isinstance(each, RandAugment) or (isinstance(each, AugmentationBase2D) and each.p > 0)
        ]

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        for transform in self.transforms:
            transform.to(trainer.strategy.root_device)

    @torch.no_grad()
    def transform_batch(self, trainer: pl.Trainer, batch: Batch) -> Batch:
        if not self.transforms:
            return batch
        images = augment(batch.inputs, self.transforms, rank=trainer.global_rank, world_size=trainer.world_size)
        return replace(batch, inputs=images)


def augment(images: Tensor, transforms: Sequence[Transform], *, rank: int = 0, world_size: int = 1) -> Tensor:
    """(B, C, H, W) uint8, or float in [0, 1] -> float32 in the same range, drawn from torch's generators."""
    top = 255.0 if images.dtype == torch.uint8 else 1.0
    pixels = images.float() / top
    of_all_processes = torch.Size((world_size * len(images), *images.shape[1:]))
    for transform in transforms:
        if isinstance(transform, RandAugment):
            pixels = transform.change(pixels, rank=rank, world_size=world_size)
            continue
        drawn = transform.forward_parameters(of_all_processes)
        mine = {
            name: own(value, rank, len(images)) if len(value) == of_all_processes[0] else value
            for name, value in drawn.items()
        }
        mine["forward_input_shape"] = torch.tensor(pixels.shape)
        pixels = transform(pixels, params=mine)
    return pixels.clamp(0, 1) * top
