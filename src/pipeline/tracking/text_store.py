"""A text model as a folder that MLflow reads: the network, its tokenizer, and what leads from a sentence to scores."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.tracking import sentence_model

if TYPE_CHECKING:
    from mlflow.models import Model


@dataclass(frozen=True)
class Reading:
    """How a network's inputs come from sentences.

    tokenizer  JSON of Hugging Face's tokenizers, which cuts and fills to the network's length by itself
    examples   a few sentences
    """

    tokenizer: str
    examples: tuple[str, ...]


def save(
    path: Path, *, network: Path, scores: Any, description: "Model", reading: Reading, requirements: Sequence[str]
) -> None:
    """`network` is a folder that mlflow.pytorch has saved, `scores` the schema of what it returns.

    As a pyfunc the model takes a list of strings, or a table with one column of them; mlflow.pytorch.load_model still
    gives the network alone.
    """
    from mlflow import pyfunc, pytorch
    from mlflow.models import Model, ModelSignature
    from mlflow.types import ColSpec, Schema

    (network.parent / sentence_model.TOKENIZER).write_text(reading.tokenizer, encoding="utf-8")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pyfunc.save_model(
            str(path),
            loader_module=Path(sentence_model.__file__).stem,
            data_path=str(network.parent),
            code_paths=[sentence_model.__file__],
            mlflow_model=description,
            signature=ModelSignature(inputs=Schema([ColSpec("string")]), outputs=scores),
            input_example=list(reading.examples),
            pip_requirements=list(requirements),
        )
    inside = Model.load(str(network)).flavors[pytorch.FLAVOR_NAME]
    folder = f"{description.flavors[pyfunc.FLAVOR_NAME]['data']}/{network.name}/{inside['model_data']}"
    description.add_flavor(pytorch.FLAVOR_NAME, **(inside | {"model_data": folder}))
    description.save(str(path / "MLmodel"))
