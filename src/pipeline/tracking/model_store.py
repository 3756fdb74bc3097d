"""A trained network into its MLflow run, as anyone can load it without this package."""

import copy
import tempfile
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pipeline.tracking.mlflow_calls import client_of, quieten, translated

if TYPE_CHECKING:
    from mlflow.models import Model
    from torch import Tensor, nn

NAME = "model"


def log_model(
    *,
    uri: str,
    run_id: str,
    network: "nn.Module",
    example: "Tensor",
    pip_requirements: Sequence[str] | None = None,
) -> str:
    """Stores the network as a graph (torch.export) with a signature, and returns its address `models:/<id>`.

    It is loaded with `mlflow.pytorch.load_model("runs:/<run_id>/model")` and takes batches of any size.
    example: at least two raw inputs (B, ...), since a batch of one would fix the size. Requirements are torch, numpy
    and mlflow as installed unless given: to find them out by itself takes MLflow ten seconds.
    """
    if len(example) < 2:
        raise ValueError(f"the example holds {len(example)} input, but at least 2 keep the size of a batch open")
    quieten()
    with translated(), warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
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
        _save(network, example.cpu(), f"{folder}/{NAME}", description, list(pip_requirements or _installed()))
        client.log_model_artifacts(model_id, f"{folder}/{NAME}")
        client.finalize_logged_model(model_id, "READY")
        client.log_outputs(run_id, [LoggedModelOutput(model_id, step=0)])
        return str(logged.model_uri)


def _save(network: "nn.Module", example: "Tensor", path: str, description: "Model", requirements: list[str]) -> None:
    import mlflow.pytorch

    plain = copy.deepcopy(network).cpu().eval()
    mlflow.pytorch.save_model(
        plain,
        path,
        mlflow_model=description,
        signature=_signature(plain, example),
        input_example=example.numpy(),
        pip_requirements=requirements,
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


def _installed() -> list[str]:
    from importlib.metadata import version

    # Without the build's own suffix ("+cpu"), which no public index has.
    return [f"{package}=={version(package).partition('+')[0]}" for package in ("torch", "numpy", "mlflow")]
