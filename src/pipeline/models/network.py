"""A model together with the preprocessing of its inputs: trained, exported and served as one network."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from pipeline.models.layers.categories import CategoryEmbeddings
from pipeline.models.layers.log_mel import LogMel
from pipeline.spec import DataSpec

# B batch, C channels (the input's first axis)


class Standardize(nn.Module):
    """Computes (x - mean) / std for each channel, (B, C, ...), in the units of the stored data.

    A channel that never varies (std 0) is only shifted.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, *, mean: Sequence[float], std: Sequence[float], input_shape: Sequence[int]) -> None:
        super().__init__()
        per_channel = (-1, *(1 for _ in input_shape[1:]))
        deviations = torch.tensor([value if value > 0 else 1.0 for value in std])
        # Buffers are saved with the weights, so a loaded model takes raw inputs.
        self.register_buffer("mean", torch.tensor(list(mean)).reshape(per_channel))
        self.register_buffer("scale", (1.0 / deviations).reshape(per_channel))

    def forward(self, inputs: Tensor) -> Tensor:  # (B, C, ...) of any number type -> the same, floating
        # In place, which saves a pass over new memory: a twentieth of a small network's step.
        return (inputs.to(self.mean.dtype) - self.mean).mul_(self.scale)


class Unstandardize(nn.Module):
    """Computes x * std + mean for each of T target numbers, (B, T), because a model predicts standardized targets.

    A number that never varies (std 0) is only shifted.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, *, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(list(mean)))
        self.register_buffer("scale", torch.tensor([value if value > 0 else 1.0 for value in std]))

    def forward(self, scores: Tensor) -> Tensor:  # (B, T) -> the same
        # Not in low precision, which has two or three digits: a mean of 1,000 would hide the variation.
        return scores.float() * self.scale + self.mean


def input_layer(spec: DataSpec) -> nn.Module:
    """Return the layer that converts raw inputs to what `spec_for_model` describes."""
    match spec.kind:
        case "text":
            return nn.Identity()  # token numbers are categories, not quantities
        case "audio":
            return LogMel(sample_rate=spec.sample_rate)
    standardize = Standardize(mean=spec.mean, std=spec.std, input_shape=spec.input_shape)
    if not any(spec.categories):
        return standardize
    return CategoryEmbeddings(names=[len(names) for names in spec.categories], scale=standardize)


def spec_for_model(spec: DataSpec) -> DataSpec:
    """Return the DataSpec of the model's inputs: sound becomes a spectrogram of one channel, a category a vector."""
    if spec.kind == "audio":
        return replace(spec, input_shape=LogMel.shape(*spec.input_shape, sample_rate=spec.sample_rate))
    if any(spec.categories):
        return replace(spec, input_shape=CategoryEmbeddings.shape([len(names) for names in spec.categories]))
    return spec


class Network(nn.Module):
    """Converts raw inputs (B, *input_shape) to scores (B, K): scales the inputs, runs the model, unscales numbers.

    Convolutions run in `channels_last` memory format, which doubled their speed on CPUs.
    """

    def __init__(self, *, body: nn.Module, spec: DataSpec) -> None:
        super().__init__()
        self.standardize = input_layer(spec)
        convolutional = any(isinstance(module, nn.Conv2d) for module in body.modules())
        if convolutional:
            body.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # in place; missing in torch's stubs
        self.body = body
        is_regression = spec.task == "regression"
        self.unstandardize = (
            Unstandardize(mean=spec.target_mean, std=spec.target_std) if is_regression else nn.Identity()
        )
        self.channels_last = convolutional and len(spec_for_model(spec).input_shape) == 3

    def forward(self, inputs: Tensor) -> Tensor:
        scaled = self.standardize(inputs)
        if self.channels_last:
            scaled = scaled.contiguous(memory_format=torch.channels_last)
        scores: Tensor = self.unstandardize(self.body(scaled))
        return scores
