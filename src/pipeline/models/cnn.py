"""The recommended small convolutional network for images."""

from typing import ClassVar

from torch import Tensor, nn

from pipeline.constraints import PositiveInt, ProbabilityBelowOne, Sizes
from pipeline.errors import ConfigError
from pipeline.models.layers.activation import Activation, ActivationName, make_activation
from pipeline.models.layers.input_checks import check_images
from pipeline.spec import DataSpec, Kind

# B batch, C channels, H height, W width, K outputs


def conv_block(channels_in: int, channels_out: int, *, depth: int, nonlinearity: Activation) -> nn.Sequential:
    """Return `depth` 3x3 convolutions, the last one pooled: (B, C_in, H, W) -> (B, C_out, H // 2, W // 2).

    Pooling comes before the norm: max-pooling and a monotonic activation commute, so the result is the same kind of
    network, and norm and activation work on a quarter of the pixels.
    """
    layers: list[nn.Module] = []
    for layer in range(depth):
        layers.append(nn.Conv2d(channels_in, channels_out, kernel_size=3, padding=1, bias=False))
        if layer == depth - 1:
            layers.append(nn.MaxPool2d(2))
        layers += [nn.BatchNorm2d(channels_out), nonlinearity()]
        channels_in = channels_out
    return nn.Sequential(*layers)


class CNN(nn.Module):
    """Blocks of 3x3 convolutions (Simonyan & Zisserman 2015) with batch norm (Ioffe & Szegedy 2015).

    `widths` are the channels of each block, `depth` the convolutions in each; every block halves H and W.
    """

    kinds: ClassVar[tuple[Kind, ...]] = ("image", "audio")

    def __init__(
        self,
        *,
        spec: DataSpec,
        widths: Sizes,
        depth: PositiveInt,
        activation: ActivationName,
        dropout: ProbabilityBelowOne,
    ) -> None:
        super().__init__()
        check_images(spec, model="cnn")
        channels, height, width = spec.input_shape
        height_out, width_out = height >> len(widths), width >> len(widths)
        if min(height_out, width_out) < 1:
            most = min(height, width).bit_length() - 1
            raise ConfigError(
                f"model.widths={list(widths)} halves {height}x{width} images {len(widths)} times and leaves "
                f"nothing: use at most {most} blocks"
            )
        nonlinearity = make_activation(activation)
        self.blocks = nn.Sequential(
            *(
                conv_block(before, after, depth=depth, nonlinearity=nonlinearity)
                for before, after in zip([channels, *widths], widths, strict=False)
            )
        )
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(widths[-1] * height_out * width_out, spec.num_outputs)

    def forward(self, images: Tensor) -> Tensor:  # (B, C, H, W) -> (B, K)
        features = self.blocks(images)
        logits: Tensor = self.head(self.dropout(features.flatten(1)))
        return logits
