"""What a model may know of its data."""

import pytest
import torch

from pipeline.data.data_spec import build_data_spec, channel_statistics, data_digest
from pipeline.data.dataset import Split, Splits


def parts(*, channels: int = 1, seed: int = 0) -> Splits:
    generator = torch.Generator().manual_seed(seed)

    def part(size: int) -> Split:
        images = torch.randint(0, 256, (size, channels, 5, 4), dtype=torch.uint8, generator=generator)
        return Split(images, torch.arange(size) % 3)

    return Splits("noise", "image", "multiclass", ("a", "b", "c"), part(5000), part(20), part(30))


@pytest.mark.parametrize("channels", [1, 3])
def test_statistics_of_bytes_are_those_of_the_numbers(channels: int) -> None:
    images = parts(channels=channels).train.inputs
    mean, std = channel_statistics(images)
    numbers = images.double()
    assert mean == pytest.approx(numbers.mean((0, 2, 3)).tolist(), rel=1e-12)
    assert std == pytest.approx(numbers.std((0, 2, 3), correction=0).tolist(), rel=1e-12)
    assert channel_statistics(numbers.float()) == (pytest.approx(mean), pytest.approx(std))


def test_a_channel_that_never_varies_has_no_deviation() -> None:
    assert channel_statistics(torch.full((10, 1, 2, 2), 7, dtype=torch.uint8)) == ((7.0,), (0.0,))


def test_statistics_come_from_the_training_part_alone() -> None:
    first = parts()
    dark = Split(torch.zeros_like(first.test.inputs), first.test.targets)
    other = Splits("noise", "image", "multiclass", first.class_names, first.train, dark, dark)
    assert (build_data_spec(first).mean, build_data_spec(first).std) == (
        build_data_spec(other).mean,
        build_data_spec(other).std,
    )


def test_shapes_sizes_and_classes_are_told() -> None:
    spec = build_data_spec(parts(channels=3))
    assert spec.input_shape == (3, 5, 4)
    assert spec.num_classes == 3
    assert spec.sizes == {"train": 5000, "validation": 20, "test": 30}


def test_the_digest_changes_with_any_byte_and_with_nothing_else() -> None:
    assert data_digest(parts()) == data_digest(parts())
    changed = parts()
    changed.test.inputs[-1, 0, 0, 0] += 1
    assert data_digest(changed) != data_digest(parts())
    relabelled = parts()
    relabelled.validation.targets[0] = 2
    assert data_digest(relabelled) != data_digest(parts())
