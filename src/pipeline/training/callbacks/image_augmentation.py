"""Augment training images, whole batches at once, on the device."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any

import pytorch_lightning as pl
import torch
from kornia.augmentation import AugmentationBase2D
from kornia.augmentation.auto import RandAugment as KorniaRandAugment
from kornia.augmentation.auto.rand_augment.rand_augment import default_policy
from kornia.augmentation.container.params import ParamItem
from torch import Tensor, nn

from pipeline.constraints import PositiveInt, Range
from pipeline.errors import ConfigError
from pipeline.spec import Batch
from pipeline.training.callbacks.hooks import BatchTransform, local_rows

# B batch of this process, W processes, C channels, H height, W width

COLOUR_OPERATION = "color"  # saturation, for images with red, green and blue alone


class RandAugment(nn.Module):
    """RandAugment (Cubuk et al. 2020): apply `operations` of 15, of strength `magnitude` (1 to 29), to each image.

    Two numbers replace a search over the strength and probability of each operation. The operations are kornia's,
    which chooses them once for a batch; here they are drawn for each image of the global batch.
    """

    def __init__(self, *, operations: PositiveInt, magnitude: Annotated[int, Range(ge=1, lt=30)]) -> None:
        super().__init__()
        self.operations = operations
        self.choices = nn.ModuleDict(
            {policy[0][0]: KorniaRandAugment(n=1, m=magnitude, policy=[policy]) for policy in default_policy}
        )

    def augment(self, pixels: Tensor, *, rank: int, world_size: int) -> Tensor:
        """Return changed images (B, C, H, W), floats in [0, 1] as before; draws from torch's generators."""
        names = [name for name in self.choices if name != COLOUR_OPERATION or pixels.shape[1] == 3]
        count = world_size * len(pixels)
        for _ in range(self.operations):
            # On the CPU: to find the rows of an operation on a device would wait for it.
            chosen = local_rows(torch.randint(len(names), (count,), device="cpu"), rank, len(pixels))
            pixels = pixels.clone()
            for number, name in enumerate(names):
                drawn = self.choices[name].forward_parameters(torch.Size((count, *pixels.shape[1:])))  # type: ignore[operator]
                rows = (chosen == number).nonzero().squeeze(1)
                if len(rows):
                    rows_on_device = rows.to(pixels.device)
                    images = pixels[rows_on_device]
                    parameters = _select_rows(drawn, rows + rank * len(pixels), count, images.shape)
                    pixels[rows_on_device] = self.choices[name](images, params=parameters).clamp(0, 1)
        return pixels


def _select_rows(drawn: Sequence[Any], rows: Tensor, count: int, shape: torch.Size) -> list[ParamItem]:
    """Return the parameters for these rows, of those that kornia drew for `count` images."""
    selected = []
    for item in drawn:
        if isinstance(item.data, dict):
            parameters = {
                name: value[rows.to(value.device)] if value.ndim and len(value) == count else value
                for name, value in item.data.items()
            }
            selected.append(ParamItem(item.name, {**parameters, "forward_input_shape": torch.tensor(shape)}))
        else:
            selected.append(ParamItem(item.name, _select_rows(item.data, rows, count, shape)))
    return selected


Transform = AugmentationBase2D | RandAugment


class Augmentation(BatchTransform):
    """Apply kornia's augmentations one after the other, to pixels scaled to [0, 1]."""

    name = "augmentation"
    kinds = ("image",)

    def __init__(self, *, transforms: Mapping[str, nn.Module]) -> None:
        unsupported = [name for name, module in transforms.items() if not isinstance(module, Transform)]
        if unsupported:
            raise ConfigError(
                f"callbacks.augmentation.transforms.{unsupported[0]} is not one of kornia's 2-D augmentations, such as "
                "kornia.augmentation.RandomAffine, nor RandAugment"
            )
        self.transforms: list[Transform] = [
            transform
            for transform in transforms.values()
            if isinstance(transform, RandAugment) or (isinstance(transform, AugmentationBase2D) and transform.p > 0)
        ]

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        for transform in self.transforms:
            transform.to(trainer.strategy.root_device)

    @torch.no_grad()
    def transform_batch(self, trainer: pl.Trainer, batch: Batch) -> Batch:
        if not self.transforms:
            return batch
        images = augment_images(batch.inputs, self.transforms, rank=trainer.global_rank, world_size=trainer.world_size)
        return replace(batch, inputs=images)


def augment_images(images: Tensor, transforms: Sequence[Transform], *, rank: int = 0, world_size: int = 1) -> Tensor:
    """Return augmented images as float32 (B, C, H, W), in the range of the given ones: uint8, or floats in [0, 1].

    Draws from torch's generators.
    """
    top = 255.0 if images.dtype == torch.uint8 else 1.0
    pixels = images.float() / top
    global_shape = torch.Size((world_size * len(images), *images.shape[1:]))
    for transform in transforms:
        if isinstance(transform, RandAugment):
            pixels = transform.augment(pixels, rank=rank, world_size=world_size)
            continue
        drawn = transform.forward_parameters(global_shape)
        parameters = {
            name: local_rows(value, rank, len(images)) if len(value) == global_shape[0] else value
            for name, value in drawn.items()
        }
        parameters["forward_input_shape"] = torch.tensor(pixels.shape)
        pixels = transform(pixels, params=parameters)
    return pixels.clamp(0, 1) * top
