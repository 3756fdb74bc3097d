"""Residual networks for small images."""

from typing import ClassVar

from torch import Tensor, nn

from pipeline.constraints import PositiveInt, ProbabilityBelowOne, Sizes
from pipeline.models.layers.activation import Activation, ActivationName, make_activation
from pipeline.models.layers.input_checks import check_images
from pipeline.spec import DataSpec, Kind

# B batch, C channels, H height, W width, K outputs


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut: (B, C_in, H, W) -> (B, C_out, H / stride, W / stride)."""

    def __init__(self, channels_in: int, channels_out: int, *, stride: int, nonlinearity: Activation) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            conv3x3(channels_in, channels_out, stride=stride),
            nn.BatchNorm2d(channels_out),
            nonlinearity(),
            conv3x3(channels_out, channels_out, stride=1),
            nn.BatchNorm2d(channels_out),
        )
        is_same = stride == 1 and channels_in == channels_out
        # A projection where the shapes differ: option B of the paper.
        self.shortcut = nn.Identity() if is_same else projection_shortcut(channels_in, channels_out, stride=stride)
        self.nonlinearity = nonlinearity()

    def forward(self, features: Tensor) -> Tensor:
        after: Tensor = self.nonlinearity(self.residual(features) + self.shortcut(features))
        return after


class ResNet(nn.Module):
    """The network for images of 32x32 in He, Zhang, Ren & Sun 2016, section 4.2.

    `widths` are the channels of each stage, of which all but the first halve H and W; `depth` the blocks in each. With
    three stages that makes 6 * depth + 2 layers: a depth of 3 is ResNet-20, of 9 ResNet-56. Convolutions start from
    normal weights with the variance 2 / fan-out (He et al. 2015, eq. 14).
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
        check_images(spec, model="resnet")
        nonlinearity = make_activation(activation)
        self.stem = nn.Sequential(
            conv3x3(spec.input_shape[0], widths[0], stride=1), nn.BatchNorm2d(widths[0]), nonlinearity()
        )
        blocks: list[nn.Module] = []
        channels = widths[0]
        for stage, width in enumerate(widths):
            for block in range(depth):
                stride = 2 if stage > 0 and block == 0 else 1
                blocks.append(ResidualBlock(channels, width, stride=stride, nonlinearity=nonlinearity))
                channels = width
        self.blocks = nn.Sequential(*blocks)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(channels, spec.num_outputs)

    def forward(self, images: Tensor) -> Tensor:  # (B, C, H, W) -> (B, K)
        features = self.blocks(self.stem(images)).mean(dim=(2, 3))
        scores: Tensor = self.head(self.dropout(features))
        return scores


def conv3x3(channels_in: int, channels_out: int, *, stride: int) -> nn.Conv2d:
    """Return a 3x3 convolution, (B, C_in, H, W) -> (B, C_out, H / stride, W / stride), without a bias before a norm."""
    layer = nn.Conv2d(channels_in, channels_out, kernel_size=3, stride=stride, padding=1, bias=False)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return layer


def projection_shortcut(channels_in: int, channels_out: int, *, stride: int) -> nn.Sequential:
    """Return a 1x1 convolution and a norm, which give the shortcut the shape of the residual."""
    layer = nn.Conv2d(channels_in, channels_out, kernel_size=1, stride=stride, bias=False)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(layer, nn.BatchNorm2d(channels_out))
