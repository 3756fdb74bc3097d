"""Weights of another type than float32."""

from collections.abc import Callable
from typing import Any

from pytorch_lightning.plugins.precision import DoublePrecision, HalfPrecision, Precision

# The network's first layer brings inputs to the type of its weights. Lightning would do so with the whole batch, in
# place, and round targets, and numbers that stand for names.


class Half(HalfPrecision):
    def convert_input(self, data: Any) -> Any:
        return data


class Double(DoublePrecision):
    def convert_input(self, data: Any) -> Any:
        return data


OF_WEIGHTS: dict[str, Callable[[], Precision]] = {
    "16-true": lambda: Half("16-true"),
    "bf16-true": lambda: Half("bf16-true"),
    "64-true": Double,
    "64": Double,  # Lightning's other name for it
}
