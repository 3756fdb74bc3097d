"""A trained network into its MLflow run, as anyone can load it without this package."""

import copy
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.system.files import temporary_folder
from pipeline.tracking.mlflow import sentence_model
from pipeline.tracking.mlflow.mlflow_errors import client_of, quieten, translated

if TYPE_CHECKING:
    from mlflow.models import Model
    from torch import Tensor, nn
from dataclasses import dataclass
from typing import TYPE_CHECKING

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


NAME = "model"


def log_model(
    *,
    uri: str,
    run_id: str,
    network: "nn.Module",
    example: "Tensor",
    reading: Reading | None = None,
    pip_requirements: Sequence[str] | None = None,
) -> str:
    """Stores the network as a graph (torch.export) with a signature, and returns its address `models:/<id>`.

    It is loaded with `mlflow.pytorch.load_model("runs:/<run_id>/model")` and takes batches of any size.
    With `reading`, which a network of text has, `mlflow.pyfunc.load_model` takes a column of sentences.
    example: at least two raw inputs (B, ...), since a batch of one would fix the size. Requirements are torch, numpy
    and mlflow (of text: tokenizers) as installed unless given: to find them out by itself takes MLflow ten seconds.
    """
    if len(example) < 2:
        raise ValueError(f"the example holds {len(example)} input, but at least 2 keep the size of a batch open")
    quieten()
    with translated(), warnings.catch_warnings(), temporary_folder() as folder:
        warnings.simplefilter("ignore")  # torch.export's and mlflow's, about their own insides
        from mlflow.entities import LoggedModelOutput
        from mlflow.models import Model

        # Not mlflow.pytorch.log_model: it works on a global address, copies all metrics of the step onto the model
        # with one call each, and would set the status of the run that it opens.
        client = client_of(uri)
        experiment_id = client.get_run(run_id).info.experiment_id
        logged = client.create_logged_model(experiment_id, NAME, source_run_id=run_id)
        address, model_id = logged.artifact_location, logged.model_id
        description = Model(artifact_path=address, run_id=run_id, model_uuid=model_id, model_id=model_id)
        requirements = list(pip_requirements or _installed(*(["tokenizers"] if reading is not None else [])))
        save = _save if reading is None else partial(_save_with_tokenizer, reading)
        save(network, example.cpu(), Path(folder, NAME), description, requirements)
        client.log_model_artifacts(model_id, f"{folder}/{NAME}")
        client.finalize_logged_model(model_id, "READY")
        client.log_outputs(run_id, [LoggedModelOutput(model_id, step=0)])
        return str(logged.model_uri)


def _save(network: "nn.Module", example: "Tensor", path: Path, description: "Model", requirements: list[str]) -> Any:
    """The schema of what it returns."""
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
    reading: Reading,
    network: "nn.Module",
    example: "Tensor",
    path: Path,
    description: "Model",
    requirements: list[str],
) -> None:
    from mlflow.models import Model

    inside = path.with_name("text") / sentence_model.NETWORK
    # Token numbers as tokenizers give them, in whichever type they were trained on.
    scores = _save(network, example.long(), inside, Model(), requirements)
    save(path, network=inside, scores=scores, description=description, reading=reading, requirements=requirements)


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

    # Without the build's own suffix ("+cpu"), which no public index has.
    return [f"{package}=={version(package).partition('+')[0]}" for package in ("torch", "numpy", "mlflow", *more)]
