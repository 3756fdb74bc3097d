"""Image models of the package timm."""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor, nn

from pipeline.constraints import ProbabilityBelowOne
from pipeline.errors import ConfigError
from pipeline.models.layers.input_checks import check_images, import_optional
from pipeline.spec import DataSpec, Kind

# B batch, C channels, H height, W width, K outputs

# Arguments of timm.create_model that name files, which timm would read as a pickle.
WEIGHT_ARGUMENTS = {"checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir"}


class Timm(nn.Module):
    """Any of PyTorch Image Models (Wightman 2019), with the channels and the outputs of the data.

    `pretrained` is False, True (weights from the Hugging Face hub) or a file of weights that ends in .safetensors:
    other formats could hold code. `settings` go to `timm.create_model` as they are, such as img_size for a transformer.
    """

    kinds: ClassVar[tuple[Kind, ...]] = ("image", "audio")

    def __init__(
        self,
        *,
        spec: DataSpec,
        name: str,
        pretrained: bool | str,
        dropout: ProbabilityBelowOne,
        settings: Mapping[str, Any],
    ) -> None:
        super().__init__()
        check_images(spec, model="timm")
        for setting in WEIGHT_ARGUMENTS & settings.keys():
            raise ConfigError(
                f"model.settings.{setting} says where weights come from, perhaps from a file that holds code: leave it "
                "out, and give weights with model.pretrained=FILE.safetensors"
            )
        weights = (
            {"pretrained_cfg_overlay": {"file": resolve_weights_file(pretrained)}}
            if isinstance(pretrained, str)
            else {}
        )
        timm = import_optional("timm", model="timm")
        if not timm.is_model(name):
            similar = difflib.get_close_matches(name, timm.list_models(), n=5) or ["resnet18"]
            raise ConfigError(f"model.name={name} is not one of timm's models: use such as {', '.join(similar)}")
        try:
            self.model = timm.create_model(
                name,
                pretrained=bool(pretrained),
                in_chans=spec.input_shape[0],
                num_classes=spec.num_outputs,
                drop_rate=dropout,
                **weights,
                **settings,
            )
        except (TypeError, RuntimeError, OSError) as problem:
            raise ConfigError(f"model=timm model.name={name}: timm cannot build it: {problem}") from problem

    def forward(self, images: Tensor) -> Tensor:  # (B, C, H, W) -> (B, K)
        scores: Tensor = self.model(images)
        return scores


def resolve_weights_file(name: str) -> str:
    path = Path(name).expanduser()
    if path.suffix != ".safetensors" or not path.is_file():
        raise ConfigError(
            f"model.pretrained={name}: expected true, false, or a file of weights that is there and ends in "
            ".safetensors"
        )
    return str(path.resolve())
