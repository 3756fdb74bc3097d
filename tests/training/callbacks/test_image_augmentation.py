"""RandAugment: for each image by itself, grey ones too, and the same for any number of processes."""

import pytest
import torch

from pipeline.training.callbacks.image_augmentation import Augmentation, RandAugment, augment_images
from pipeline.training.distributed.global_batch import reseed


def images(channels: int, count: int = 24) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, channels, 12, 12), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("channels", [1, 3])
def test_two_processes_augment_the_same_images_as_one(channels: int) -> None:
    whole_images, transforms = images(channels), [RandAugment(operations=2, magnitude=10)]
    reseed(0, "augmentation 0", 5)
    whole = augment_images(whole_images, transforms)
    halves = []
    for rank, half in enumerate(whole_images.chunk(2)):
        reseed(0, "augmentation 0", 5)
        halves.append(augment_images(half, transforms, rank=rank, world_size=2))
    torch.testing.assert_close(torch.cat(halves), whole)
    assert whole.min() >= 0 and whole.max() <= 255 and whole.dtype == torch.float32


def test_equal_images_are_augmented_differently_and_differently_in_other_steps() -> None:
    same, transforms = images(1, 1).expand(64, 1, 12, 12), [RandAugment(operations=1, magnitude=15)]
    reseed(0, "augmentation 0", 1)
    first = augment_images(same, transforms)
    assert 8 <= len(first.flatten(1).round().unique(dim=0)) <= 32, "14 operations, some with either sign"
    reseed(0, "augmentation 0", 2)
    assert not torch.equal(augment_images(same, transforms), first)


def test_rand_augment_is_one_of_the_transforms_of_augmentation() -> None:
    assert len(Augmentation(transforms={"rand_augment": RandAugment(operations=2, magnitude=9)}).transforms) == 1
