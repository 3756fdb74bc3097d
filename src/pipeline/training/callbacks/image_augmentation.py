"""Training images changed at random, whole batches at once, on the device."""

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

# B batch of this process, W processes, C channels

STRONGEST = 30
COLOUR_OPERATION = "color"  # saturation, which only red, green and blue have


class RandAugment(nn.Module):
    """Cubuk et al. 2020: `operations` of 15, each of strength `magnitude` (1 to 29), for each image by itself.

    Its two numbers take the place of what else would be searched for each operation. The operations are kornia's,
    which chooses them once a batch; here they are drawn for each image of the batch of all processes together.
    """

    def __init__(self, *, operations: PositiveInt, magnitude: Annotated[int, Range(ge=1, lt=30)]) -> None:
        super().__init__()
        self.operations = operations
        self.choices = nn.ModuleDict(
            {policy[0][0]: KorniaRandAugment(n=1, m=magnitude, policy=[policy]) for policy in default_policy}
        )

    def change(self, pixels: Tensor, *, rank: int, world_size: int) -> Tensor:
        """(B, C, H, W) floats in [0, 1] -> the same, drawn from torch's generators."""
        names = [name for name in self.choices if name != COLOUR_OPERATION or pixels.shape[1] == 3]
        count = world_size * len(pixels)
        for _ in range(self.operations):
            # On the CPU, or to find the rows of an operation would wait for the device.
            chosen = local_rows(torch.randint(len(names), (count,), device="cpu"), rank, len(pixels))
            pixels = pixels.clone()
            for number, name in enumerate(names):
                drawn = self.choices[name].forward_parameters(torch.Size((count, *pixels.shape[1:])))  # type: ignore[operator]
                rows = (chosen == number).nonzero().squeeze(1)
                if len(rows):
                    here = rows.to(pixels.device)
                    parameters = _select_rows(drawn, rows + rank * len(pixels), count, pixels[here].shape)
                    pixels[here] = self.choices[name](pixels[here], params=parameters).clamp(0, 1)
        return pixels


def _select_rows(drawn: Sequence[Any], rows: Tensor, count: int, shape: torch.Size) -> list[ParamItem]:
    """What kornia drew for `count` images, for these rows alone."""
    found = []
    for item in drawn:
        if isinstance(item.data, dict):
            mine = {
                name: value[rows.to(value.device)] if value.ndim and len(value) == count else value
                for name, value in item.data.items()
            }
            found.append(ParamItem(item.name, {**mine, "forward_input_shape": torch.tensor(shape)}))
        else:
            found.append(ParamItem(item.name, _select_rows(item.data, rows, count, shape)))
    return found


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
        images = augment_images(batch.inputs, self.transforms, rank=trainer.global_rank, world_size=trainer.world_size)
        return replace(batch, inputs=images)


def augment_images(images: Tensor, transforms: Sequence[Transform], *, rank: int = 0, world_size: int = 1) -> Tensor:
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
            name: local_rows(value, rank, len(images)) if len(value) == of_all_processes[0] else value
            for name, value in drawn.items()
        }
        mine["forward_input_shape"] = torch.tensor(pixels.shape)
        pixels = transform(pixels, params=mine)
    return pixels.clamp(0, 1) * top
