"""LeNet-5, the first widely used convolutional network."""

from typing import ClassVar

from torch import Tensor, nn

from pipeline.constraints import ProbabilityBelowOne
from pipeline.errors import ConfigError
from pipeline.models.layers.activation import ActivationName, make_activation
from pipeline.models.layers.input_checks import check_images
from pipeline.spec import DataSpec, Kind

# B batch, C channels, H height, W width, K outputs

SMALLEST = 12  # pixels a side: convolving with 5x5 and halving twice leaves one pixel


class LeNet5(nn.Module):
    """The network of LeCun, Bottou, Bengio & Haffner 1998, section II.B: 61,706 weights for digits of 28x28.

    As usual today, every map of C3 sees all of S2, pooling has no weights, and linear outputs replace the radial basis
    functions. Images are padded by 2, as MNIST's 28x28 were to 32x32 in the paper.
    """

    kinds: ClassVar[tuple[Kind, ...]] = ("image", "audio")

    def __init__(self, *, spec: DataSpec, activation: ActivationName, dropout: ProbabilityBelowOne) -> None:
        super().__init__()
        check_images(spec, model="lenet5")
        if min(spec.input_shape[1:]) < SMALLEST:
            raise ConfigError(
                f"model=lenet5 needs images of {SMALLEST}x{SMALLEST} or more; {spec.name} has inputs of shape "
                f"{spec.input_shape}: use model=cnn 'model.widths=[16,32]'"
            )
        channels, height, width = spec.input_shape
        height_out, width_out = ((side // 2 - 4) // 2 for side in (height, width))
        nonlinearity = make_activation(activation)
        self.features = nn.Sequential(  # (B, C, H, W) -> (B, 16, H', W')
            nn.Conv2d(channels, 6, kernel_size=5, padding=2),  # C1
            nonlinearity(),
            nn.AvgPool2d(2),  # S2
            nn.Conv2d(6, 16, kernel_size=5),  # C3
            nonlinearity(),
            nn.AvgPool2d(2),  # S4
        )
        self.classifier = nn.Sequential(  # (B, 16 * H' * W') -> (B, K)
            nn.Linear(16 * height_out * width_out, 120),  # C5
            nonlinearity(),
            nn.Linear(120, 84),  # F6
            nonlinearity(),
            nn.Dropout(dropout),
            nn.Linear(84, spec.num_outputs),
        )

    def forward(self, images: Tensor) -> Tensor:  # (B, C, H, W) -> (B, K)
        scores: Tensor = self.classifier(self.features(images).flatten(1))
        return scores
