"""Recordings changed at random: by how much, which, and the same for any number of processes."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pipeline.errors import ConfigError
from pipeline.spec import Batch
from pipeline.training.callbacks.audio_augmentation import (
    SpecAugment,
    TimeShift,
    WaveformNoise,
    add_white_noise,
    mask_spectrograms,
    shift_waveforms,
)
from pipeline.training.distributed.global_batch import reseed

SOUNDS = torch.arange(1, 101).repeat(64, 1).to(torch.int16)
PICTURES = torch.ones(64, 1, 40, 60)
MASKS = {"frequency_masks": 2, "frequency_width": 8, "time_masks": 2, "time_width": 20}


def drawn(change: Callable[..., Tensor], inputs: Tensor, **process: int) -> Tensor:
    reseed(0, "augmentation", 3)
    return change(inputs, **process)


def test_a_recording_is_shifted_by_at_most_its_share_and_filled_with_silence() -> None:
    found = drawn(lambda each, **process: shift_waveforms(each, 0.2, **process), SOUNDS)
    assert found.dtype == SOUNDS.dtype
    moves = set()
    for row in found:
        heard = row[row != 0]
        move = int((row != 0).nonzero()[0]) - (int(heard[0]) - 1)
        assert torch.equal(heard.diff(), torch.ones_like(heard[1:])) and len(heard) == 100 - abs(move)
        moves.add(move)
    assert min(moves) < -10 and max(moves) > 10 and max(map(abs, moves)) <= 20
    assert torch.equal(shift_waveforms(SOUNDS, 0.0), SOUNDS)


def test_white_noise_is_fainter_than_the_recording_by_the_given_decibels() -> None:
    loud = torch.full((200, 4000), 1000, dtype=torch.int16)
    found = drawn(lambda each, **process: add_white_noise(each, [20.0, 20.0], 0.5, **process), loud)
    deviations = (found - loud).std(dim=1)
    assert (deviations > 0).float().mean() == pytest.approx(0.5, abs=0.15)
    assert deviations[deviations > 0].numpy() == pytest.approx(100, rel=0.1)
    assert not add_white_noise(torch.zeros(2, 50, dtype=torch.int16), [0.0, 0.0], 1.0).any()


@pytest.mark.parametrize("axis, width", [(2, 8), (3, 20)])
def test_a_mask_covers_up_to_its_width_along_its_axis_and_all_of_the_other_axis(axis: int, width: int) -> None:
    found = drawn(lambda each, **process: mask_spectrograms(each, axis, width, **process), PICTURES)
    across = found.amin(dim=5 - axis).squeeze(1)  # (B, size)
    assert torch.equal(across, found.amax(dim=5 - axis).squeeze(1))
    counts = (across == 0).sum(dim=1)
    assert counts.max() == width and counts.min() == 0
    assert all((row == 0).nonzero().flatten().diff().eq(1).all() for row in across)


@pytest.mark.parametrize(
    "change, inputs",
    [
        (lambda each, **process: shift_waveforms(each, 0.2, **process), SOUNDS),
        (lambda each, **process: add_white_noise(each, [10.0, 40.0], 0.5, **process), SOUNDS),
        (lambda each, **process: mask_spectrograms(each, 2, 8, **process), PICTURES),
        (lambda each, **process: mask_spectrograms(each, 3, 100, **process), PICTURES),
    ],
)
def test_two_processes_change_the_same_recordings_as_one(change: Callable[..., Tensor], inputs: Tensor) -> None:
    whole = drawn(change, inputs)
    halves = [drawn(change, half, rank=rank, world_size=2) for rank, half in enumerate(inputs.chunk(2))]
    assert torch.equal(torch.cat(halves), whole)


def trainer() -> Any:
    """Of a network whose first stage makes pictures of 40 bands."""
    stage = nn.Module()
    stage.forward = lambda inputs: inputs if inputs.ndim == 4 else PICTURES[: len(inputs)]  # type: ignore[method-assign]
    module = SimpleNamespace(network=SimpleNamespace(standardize=stage))
    return SimpleNamespace(lightning_module=module, global_rank=0, world_size=1)


def test_spec_augment_returns_masked_spectrograms_and_leaves_the_rest_of_the_batch() -> None:
    batch = Batch(SOUNDS, torch.arange(64), torch.arange(64))
    reseed(0, "augmentation", 0)
    found = SpecAugment(**MASKS).transform_batch(trainer(), batch)
    assert found.inputs.shape == PICTURES.shape and 0.2 < found.inputs.mean() < 0.9
    assert found.targets is batch.targets and found.ids is batch.ids


def test_waveform_augmentation_after_spec_augment_is_refused() -> None:
    shift, noise = TimeShift(share=0.1), WaveformNoise(decibels=[10, 40], p=0.5)
    for callback in (shift, noise):
        with pytest.raises(ConfigError, match=r"spec_augment must come after it, callbacks=\[default,"):
            callback.transform(trainer(), PICTURES)
