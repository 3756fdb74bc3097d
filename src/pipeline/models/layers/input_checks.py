"""What models of images share."""

from pipeline.errors import ConfigError
from pipeline.models.tokens import refuse_text
from pipeline.spec import DataSpec


def check_images(spec: DataSpec, *, model: str) -> None:
    """Raises ConfigError where the inputs are no images."""
    refuse_text(spec, model=model)
    if len(spec.input_shape) != 3:
        raise ConfigError(
            f"model={model} needs images (channels, height, width); {spec.name} has inputs of shape "
            f"{spec.input_shape}: use model=mlp"
        )
