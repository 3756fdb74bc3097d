"""A vision transformer for small images."""

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.constraints import PositiveInt, ProbabilityBelowOne
from pipeline.models.layers.input_checks import check_images
from pipeline.models.transformer import EncoderBlock
from pipeline.spec import DataSpec, Kind

# B batch, C channels, H height, W width, P patch size, T patches, D width of a patch's vector, K outputs

LONGEST_WAVELENGTH = 100.0  # in radians: the slowest wave has a period of some 600 patches


class ViT(nn.Module):
    """A transformer over patches of P x P pixels (Dosovitskiy et al. 2021).

    `pooling` says what represents the image: `class_token` (the paper, eq. 1 to 4), or `mean`, the mean of all patches.
    Positions are learned, as in the paper, but start from sines and cosines of rows and columns (Beyer, Zhai &
    Kolesnikov 2022), because a small data set cannot teach them. Images whose sides are not a multiple of P are padded
    at the right and at the bottom with the mean of each channel.
    """

    kinds: ClassVar[tuple[Kind, ...]] = ("image", "audio")

    def __init__(
        self,
        *,
        spec: DataSpec,
        patch_size: PositiveInt,
        width: PositiveInt,
        heads: PositiveInt,
        depth: PositiveInt,
        pooling: Literal["class_token", "mean"],
        dropout: ProbabilityBelowOne,
    ) -> None:
        super().__init__()
        check_images(spec, model="vit")
        channels, *sides = spec.input_shape
        rows, columns = (-(-side // patch_size) for side in sides)
        self.fill = (0, columns * patch_size - sides[1], 0, rows * patch_size - sides[0])
        self.patches = nn.Conv2d(channels, width, kernel_size=patch_size, stride=patch_size)
        self.class_token = nn.Parameter(torch.zeros(1, 1, width)) if pooling == "class_token" else None
        places = sincos_positions(rows, columns, width)
        if pooling == "class_token":
            places = torch.cat([torch.zeros(1, width), places])
        self.positions = nn.Parameter(places)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(EncoderBlock(width=width, heads=heads, dropout=dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, spec.num_outputs)

    def forward(self, images: Tensor) -> Tensor:  # (B, C, H, W) -> (B, K)
        words = self.patches(F.pad(images, self.fill)).flatten(2).transpose(1, 2)  # (B, T, D)
        if self.class_token is not None:
            words = torch.cat([self.class_token.expand(len(words), -1, -1), words], dim=1)
        words = self.dropout(words + self.positions)
        for block in self.blocks:
            words = block(words)
        words = self.norm(words)
        image = words.mean(dim=1) if self.class_token is None else words[:, 0]
        scores: Tensor = self.head(image)
        return scores


def sincos_positions(rows: int, columns: int, width: int) -> Tensor:
    """Return (T, D): sine and cosine of each patch's row and column at D / 4 frequencies; the remainder of D is 0."""
    count = width // 4
    frequencies = LONGEST_WAVELENGTH ** (-torch.arange(count) / max(count, 1))
    row, column = (torch.arange(length)[:, None] * frequencies for length in (rows, columns))
    of_rows = torch.cat([row.sin(), row.cos()], dim=1)[:, None].expand(-1, columns, -1)
    of_columns = torch.cat([column.sin(), column.cos()], dim=1)[None].expand(rows, -1, -1)
    places = torch.cat([of_rows, of_columns], dim=2).flatten(0, 1)
    return F.pad(places, (0, width - places.shape[1]))
