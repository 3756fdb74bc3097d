"""The nets of the speed figures, written out by hand."""

from torch import nn


def cnn() -> nn.Module:
    """What conf/model/cnn.yaml builds."""
    layers: list[nn.Module] = []
    channels = 1
    for width in (16, 32, 64):
        layers += [
            nn.Conv2d(channels, width, 3, padding=1, bias=False),
            nn.MaxPool2d(2),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        ]
        channels = width
    return nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.2), nn.Linear(64 * 3 * 3, 10))


def dense() -> nn.Module:
    """784-64-128-64-10 with batch norm: so small that the loop around it shows."""
    layers: list[nn.Module] = [nn.Flatten()]
    features = 784
    for width in (64, 128, 64):
        layers += [nn.Linear(features, width, bias=False), nn.BatchNorm1d(width), nn.ReLU()]
        features = width
    return nn.Sequential(*layers, nn.Linear(features, 10))
