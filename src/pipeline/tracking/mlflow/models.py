"""Log a trained network to its MLflow run, in a form that anyone can load without this package."""

import copy
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.system.files import temporary_folder
from pipeline.tracking.mlflow import sentence_model
from pipeline.tracking.mlflow.mlflow_client import mlflow_client, quiet_mlflow, translate_errors

if TYPE_CHECKING:
    from mlflow.models import Model
    from torch import Tensor, nn

NAME = "model"


@dataclass(frozen=True)
class TextPreprocessing:
    """How a network's inputs are made from sentences.

    tokenizer  JSON of Hugging Face's tokenizers, which truncates and pads to the network's length by itself
    examples   a few sentences
    """

    tokenizer: str
    examples: tuple[str, ...]


def save_text_model(
    path: Path,
    *,
    network: Path,
    scores: Any,
    description: "Model",
    reading: TextPreprocessing,
    requirements: Sequence[str],
) -> None:
    """Save a model that takes a list of strings, or a table with one column of them.

    `network` is a folder that mlflow.pytorch has saved, `scores` the schema of its output. mlflow.pytorch.load_model
    still returns the network alone.
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


def log_model(
    *,
    uri: str,
    run_id: str,
    network: "nn.Module",
    example: "Tensor",
    reading: TextPreprocessing | None = None,
    pip_requirements: Sequence[str] | None = None,
) -> str:
    """Store the network as a graph (torch.export) with a signature, and return its address `models:/<id>`.

    `mlflow.pytorch.load_model("runs:/<run_id>/model")` loads it for batches of any size. With `reading`, for a
    network of text, the model of `mlflow.pyfunc.load_model` takes a column of sentences.
    example: at least two raw inputs (B, ...), since a batch of one would fix the size. Requirements are torch, numpy
    and mlflow (for text: tokenizers) as installed unless given: MLflow needs ten seconds to find them itself.
    """
    if len(example) < 2:
        raise ValueError(f"the example holds {len(example)} input, but at least 2 keep the size of a batch open")
    quiet_mlflow()
    with translate_errors(), warnings.catch_warnings(), temporary_folder() as folder:
        warnings.simplefilter("ignore")  # torch.export's and mlflow's, about their own insides
        from mlflow.entities import LoggedModelOutput
        from mlflow.models import Model

        # Not mlflow.pytorch.log_model: it works on a global address, copies all metrics of the step onto the model
        # with one call each, and would set the status of the run that it opens.
        client = mlflow_client(uri)
        experiment_id = client.get_run(run_id).info.experiment_id
        logged = client.create_logged_model(experiment_id, NAME, source_run_id=run_id)
        address, model_id = logged.artifact_location, logged.model_id
        description = Model(artifact_path=address, run_id=run_id, model_uuid=model_id, model_id=model_id)
        requirements = list(pip_requirements or _installed(*(["tokenizers"] if reading is not None else [])))
        save_text_model = _save if reading is None else partial(_save_with_tokenizer, reading)
        save_text_model(network, example.cpu(), Path(folder, NAME), description, requirements)
        client.log_model_artifacts(model_id, f"{folder}/{NAME}")
        client.finalize_logged_model(model_id, "READY")
        client.log_outputs(run_id, [LoggedModelOutput(model_id, step=0)])
        return str(logged.model_uri)


def _save(network: "nn.Module", example: "Tensor", path: Path, description: "Model", requirements: list[str]) -> Any:
    """Save the network and return the schema of its output."""
    import mlflow.pytorch

    plain = copy.deepcopy(network).cpu().eval()
    signature = _signature(plain, example)
    mlflow.pytorch.save_model(
        plain,
        str(path),
        mlflow_model=description,
        signature=signature,
        input_example=example.numpy(),
        pip_requirements=requirements,
    )
    return signature.outputs


def _save_with_tokenizer(
    reading: TextPreprocessing,
    network: "nn.Module",
    example: "Tensor",
    path: Path,
    description: "Model",
    requirements: list[str],
) -> None:
    from mlflow.models import Model

    inside = path.with_name("text") / sentence_model.NETWORK
    # Tokenizers return int64, whatever type the network was trained on.
    scores = _save(network, example.long(), inside, Model(), requirements)
    save_text_model(
        path, network=inside, scores=scores, description=description, reading=reading, requirements=requirements
    )


def _signature(network: "nn.Module", example: "Tensor") -> Any:
    import torch
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    def schema(tensor: "Tensor") -> Any:
        array = tensor.numpy()
        return Schema([TensorSpec(array.dtype, (-1, *array.shape[1:]))])

    with torch.no_grad():
        return ModelSignature(inputs=schema(example), outputs=schema(network(example)))


def _installed(*more: str) -> list[str]:
    from importlib.metadata import version

    # Without the suffix of a build ("+cpu"), which no public index has.
    return [f"{package}=={version(package).partition('+')[0]}" for package in ("torch", "numpy", "mlflow", *more)]
