"""A model together with what its inputs go through first: what is trained, exported and served as one."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from pipeline.models.layers.categories import CategoryEmbeddings
from pipeline.models.layers.log_mel import LogMel
from pipeline.spec import DataSpec

# B batch, C channels (the input's first axis)


class Standardize(nn.Module):
    """(x - mean) / std for each channel, in the units of the stored data.

    A channel that never varies (std 0) is only shifted.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, *, mean: Sequence[float], std: Sequence[float], input_shape: Sequence[int]) -> None:
        super().__init__()
        per_channel = (-1, *(1 for _ in input_shape[1:]))
        deviations = torch.tensor([value if value > 0 else 1.0 for value in std])
        # Buffers: they travel with the weights, so whoever loads the model feeds it raw inputs.
        self.register_buffer("mean", torch.tensor(list(mean)).reshape(per_channel))
        self.register_buffer("scale", (1.0 / deviations).reshape(per_channel))

    def forward(self, inputs: Tensor) -> Tensor:  # (B, C, ...) of any number type -> the same, floating
        # In place: one pass less over new memory, a twentieth of a small network's step.
        return (inputs.to(self.mean.dtype) - self.mean).mul_(self.scale)


class Unstandardize(nn.Module):
    """x * std + mean of each number to predict: a model answers in deviations, the network in the data's units.

    A number that never varies (std 0) is only shifted.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, *, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(list(mean)))
        self.register_buffer("scale", torch.tensor([value if value > 0 else 1.0 for value in std]))

    def forward(self, scores: Tensor) -> Tensor:  # (B, T) -> the same
        # Not in low precision, which has two or three digits: a mean of 1,000 would swallow what varies.
        return scores.float() * self.scale + self.mean


def input_layer(spec: DataSpec) -> nn.Module:
    """From raw inputs to what `seen_by_model` describes."""
    match spec.kind:
        case "text":
            return nn.Identity()  # tokens are names, not amounts
        case "audio":
            return LogMel(sample_rate=spec.sample_rate)
    standardize = Standardize(mean=spec.mean, std=spec.std, input_shape=spec.input_shape)
    if not any(spec.categories):
        return standardize
    return CategoryEmbeddings(names=[len(names) for names in spec.categories], scale=standardize)


def spec_for_model(spec: DataSpec) -> DataSpec:
    """What the model is to be built for: sound reaches it as a picture of one channel, a name as a vector."""
    if spec.kind == "audio":
        return replace(spec, input_shape=LogMel.shape(*spec.input_shape, sample_rate=spec.sample_rate))
    if any(spec.categories):
        return replace(spec, input_shape=CategoryEmbeddings.shape([len(names) for names in spec.categories]))
    return spec


class Network(nn.Module):
    """Raw inputs as they are stored -> scores: the data's own scaling, then the model; numbers are scaled back.

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
