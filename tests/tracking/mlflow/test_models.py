import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pipeline.models.network import Network
from pipeline.spec import DataSpec
from pipeline.tracking.mlflow.mlflow_client import Refused, mlflow_client
from pipeline.tracking.mlflow.models import log_model
from pipeline.tracking.mlflow.store import MlflowStore

LOAD = """
import sys
import mlflow, torch
mlflow.set_tracking_uri(sys.argv[1])
network = mlflow.pytorch.load_model(sys.argv[2])
assert not [name for name in sys.modules if name.split(".")[0] == "pipeline"]
torch.save(network(torch.load(sys.argv[3])), sys.argv[4])
"""


def images(count: int) -> Tensor:
    return torch.randint(0, 256, (count, 1, 28, 28), dtype=torch.uint8)


@pytest.fixture
def network() -> Network:
    spec = DataSpec("digits", "image", "multiclass", (1, 28, 28), tuple("0123456789"), (33.3,), (78.6,))
    body = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.LazyLinear(10)
    )
    body(torch.zeros(2, 1, 28, 28))
    return Network(body=body, spec=spec)


@pytest.fixture
def run_id(sqlite_uri: str, tmp_path: Path, run_dir: Path) -> str:
    store = MlflowStore(sqlite_uri, str(tmp_path / "artifacts"))
    found = store.open_run(experiment="digits", name="cnn", run_uid=run_dir.name, time=0, known_id=None)
    store.set_status(found.run_id, "KILLED", 5)
    return found.run_id


def test_a_logged_network_is_loaded_from_its_run_and_answers_batches_of_any_size(
    network: Network, sqlite_uri: str, run_id: str, capfd: pytest.CaptureFixture[str], contents: Callable[[str], Any]
) -> None:
    address = log_model(uri=sqlite_uri, run_id=run_id, network=network, example=images(2))
    assert capfd.readouterr() == ("", "")
    assert network.training, "the network itself stays as it was"
    assert contents(sqlite_uri).run(run_id).info.status == "KILLED", "so does the status of the run"
    assert contents(sqlite_uri).run(run_id).outputs.model_outputs[0].model_id == address.removeprefix("models:/")

    import mlflow

    mlflow.set_tracking_uri(sqlite_uri)
    try:
        loaded = mlflow.pytorch.load_model(f"runs:/{run_id}/model")
        for size in (1, 2, 7):
            inputs = images(size)
            torch.testing.assert_close(loaded(inputs), network.eval()(inputs))
        signature = mlflow.models.get_model_info(address).signature
        (given,), (returned,) = signature.inputs.inputs, signature.outputs.inputs
        assert (given.type, given.shape) == ("uint8", (-1, 1, 28, 28))
        assert (returned.type, returned.shape) == ("float32", (-1, 10))
        assert mlflow.pyfunc.load_model(address).predict(images(3).numpy()).shape == (3, 10)
    finally:
        mlflow.set_tracking_uri(None)


@pytest.mark.slow
def test_a_logged_network_is_loaded_without_this_package(
    network: Network, sqlite_uri: str, run_id: str, tmp_path: Path
) -> None:
    address = log_model(uri=sqlite_uri, run_id=run_id, network=network, example=images(2))
    inputs = images(5)
    torch.save(inputs, tmp_path / "inputs.pt")
    for uri in (address, f"runs:/{run_id}/model"):
        command = [sys.executable, "-c", LOAD, sqlite_uri, uri, str(tmp_path / "inputs.pt"), str(tmp_path / "out.pt")]
        subprocess.run(command, check=True, cwd=tmp_path)
        torch.testing.assert_close(torch.load(tmp_path / "out.pt"), network.eval()(inputs))


def test_the_requirements_of_a_logged_model_are_public_versions(network: Network, sqlite_uri: str, run_id: str) -> None:
    address = log_model(uri=sqlite_uri, run_id=run_id, network=network, example=images(2))
    model = mlflow_client(sqlite_uri).get_logged_model(address.removeprefix("models:/"))
    folder = Path(model.artifact_location.removeprefix("file://"))
    requirements = (folder / "requirements.txt").read_text().split()
    assert [line.partition("==")[0] for line in requirements] == ["torch", "numpy", "mlflow"]
    assert "+" not in "".join(requirements)


def test_an_example_of_one_sample_is_refused(network: Network, sqlite_uri: str, run_id: str) -> None:
    with pytest.raises(ValueError, match="at least 2"):
        log_model(uri=sqlite_uri, run_id=run_id, network=network, example=images(1))


def test_a_model_for_a_missing_run_is_refused(network: Network, sqlite_uri: str) -> None:
    with pytest.raises(Refused, match="0" * 32):
        log_model(uri=sqlite_uri, run_id="0" * 32, network=network, example=images(2))
