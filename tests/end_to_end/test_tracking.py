"""What MLflow holds after `pipeline train`, and what happens when it cannot be reached."""

import json
import signal
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
import torch

from pipeline.data.datasets.mnist import MNIST5k
from pipeline.tracking import sync_state
from pipeline.tracking.journal import metric_history
from pipeline.tracking.mlflow.mlflow_client import mlflow_client

TRACKED = ("trainer.max_epochs=1", "tracking=mlflow")


@pytest.fixture(scope="module")
def tracked(program: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """(run directory, MLflow's client, its run, how training ended, how `pipeline sync` ended)"""
    root = tmp_path_factory.mktemp("tracked") / "home"
    ended = program.run(root, "train", *program.SMALL, *TRACKED)
    assert ended.code == 0, ended.err
    run_dir = program.only_run(root)
    deadline = time.monotonic() + 120
    while not sync_state.read_sync_state(run_dir).complete and time.monotonic() < deadline:
        time.sleep(0.2)  # the model follows in the background
    synced = program.run(root, "sync")
    client = mlflow_client(f"sqlite:///{root}/runs/mlflow.db")
    return run_dir, client, client.get_run(program.result(run_dir)["mlflow_run_id"]), ended, synced


def test_the_run_is_finished_and_all_of_it_has_arrived(tracked: Any) -> None:
    run_dir, _, run, _, synced = tracked
    assert run.info.status == "FINISHED"
    assert run.info.run_name == f"cnn-mnist5k-{run_dir.name[-4:]}"
    assert synced.code == 0 and synced.out == f"{run_dir.name}: complete\n"


def test_the_printed_link_leads_to_the_run(tracked: Any) -> None:
    _, _, run, ended, _ = tracked
    page = f"http://127.0.0.1:5000/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}"
    assert f"{page}?workflowType=machine_learning  (after: pipeline ui)" in ended.out


def test_params_are_flat_and_those_that_a_person_compares(tracked: Any) -> None:
    params = tracked[2].data.params
    assert (
        params.items()
        >= {
            "data": "mnist5k",
            "model": "cnn",
            "model.widths": "[4, 8]",
            "optimizer.learning_rate": "0.01",
            "data.batch_size": "128",
            "trainer.max_epochs": "1",
            "seed": "0",
        }.items()
    )
    assert not [name for name in params if "_target_" in name or name.startswith(("runs_dir", "tracking", "launch"))]


def test_tags_tell_where_it_comes_from(tracked: Any) -> None:
    run_dir, _, run, *_ = tracked
    tags = run.data.tags
    assert tags["run_uid"] == run_dir.name
    assert tags["device"] == "1 x cpu, 32-true"
    assert len(tags["data.digest"]) == 64
    assert tags["command"].startswith("pipeline train ")


def test_the_description_begins_with_the_headline(program: Any, tracked: Any) -> None:
    run_dir, _, run, *_ = tracked
    accuracy = program.result(run_dir)["metrics"]["test/accuracy"]
    assert run.data.tags["mlflow.note.content"].startswith(f"**test/accuracy {accuracy:.4f}**")


def test_its_report_made_again_replaces_the_one_in_mlflow(program: Any, tracked: Any, tmp_path: Path) -> None:
    run_dir, client, run, *_ = tracked
    page = run_dir / "report.html"
    page.write_text(page.read_text().replace("<h1>", "<h1>An older "))
    remade = program.run(run_dir.parents[1], "report")
    assert remade.code == 0 and remade.out.splitlines()[-1] == "sent to MLflow", remade.err
    stored = Path(client.download_artifacts(run.info.run_id, "report.html", str(tmp_path)))
    assert stored.read_bytes() == page.read_bytes()
    listed = program.run(run_dir.parents[1], "sync", "--all")
    assert listed.code == 0 and listed.out == f"{run_dir.name}: complete\n"
    again = program.run(run_dir.parents[1], "report")
    assert "MLflow" not in again.out, "nothing has changed"
    assert client.get_run(run.info.run_id).info.status == "FINISHED"


def test_each_point_of_each_metric_is_there_once_as_in_the_journal(tracked: Any) -> None:
    run_dir, client, run, *_ = tracked
    curves = metric_history(run_dir / "journal.jsonl")
    assert {"train/loss", "val/accuracy", "test/accuracy", "train/learning_rate"} <= curves.keys()
    assert run.data.metrics.keys() == curves.keys()
    for name, points in curves.items():
        stored = [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, name)]
        assert sorted(stored) == points


def test_the_data_set_is_named(tracked: Any) -> None:
    (entry,) = tracked[2].inputs.dataset_inputs
    assert entry.dataset.name == "mnist5k"


def test_configuration_result_and_figures_are_kept(program: Any, tracked: Any) -> None:
    run_dir, client, run, *_ = tracked
    kept = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert {"config.yaml", "overrides.txt", "environment.json", "result.json", "report.html", "figures"} <= kept
    figures = {file.path for file in client.list_artifacts(run.info.run_id, "figures")}
    assert figures == {f"figures/{path.name}" for path in (run_dir / "figures").iterdir()}
    copy = Path(client.download_artifacts(run.info.run_id, "result.json", str(run_dir)))
    assert json.loads(copy.read_text())["metrics"] == program.result(run_dir)["metrics"]


def test_the_model_loads_takes_raw_pixels_and_scores_as_in_training(program: Any, tracked: Any) -> None:
    import mlflow

    run_dir, _, run, *_ = tracked
    mlflow.set_tracking_uri(f"sqlite:///{run_dir.parent}/mlflow.db")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = mlflow.pytorch.load_model(f"runs:/{run.info.run_id}/model")
        signature = mlflow.models.get_model_info(f"runs:/{run.info.run_id}/model").signature
    test = MNIST5k().load(None).test
    assert test.inputs.dtype == torch.uint8
    with torch.no_grad():
        said = model(test.inputs).argmax(dim=1)
    expected = program.result(run_dir)["metrics"]["test/accuracy"]
    assert (said == test.targets).float().mean().item() == pytest.approx(expected, abs=1e-6)
    assert signature.inputs.inputs[0].shape[1:] == (1, 28, 28)


class TestWithoutAServer:
    @pytest.fixture(scope="class")
    @staticmethod
    def unreachable(program: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
        """A run whose server does not answer."""
        root = tmp_path_factory.mktemp("unreachable") / "home"
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))  # taken, but nobody listens
            address = f"http://127.0.0.1:{closed.getsockname()[1]}"
            ended = program.run(root, "train", *program.SMALL, *TRACKED, f"tracking.uri={address}")
        return root, ended, address

    def test_training_is_unharmed_and_says_what_to_type_later(self, program: Any, unreachable: Any) -> None:
        root, ended, _ = unreachable
        assert ended.code == 0 and ended.err == ""
        run_dir = program.only_run(root)
        result = program.result(run_dir)
        assert result["status"] == "FINISHED" and result["metrics"]["test/accuracy"] > 0.5
        assert result["mlflow_run_id"] is None
        assert f"pipeline sync run={run_dir.name}" in ended.out

    @pytest.mark.slow
    def test_sync_tells_that_it_is_still_away_and_ships_all_of_it_once_it_is_back(
        self, program: Any, unreachable: Any
    ) -> None:
        root, _, address = unreachable
        early = program.run(root, "sync")
        assert early.code == 1
        assert "left" in early.out and "Traceback" not in early.err
        with served(root, int(address.rpartition(":")[2])):
            deadline = time.monotonic() + 120
            while (late := program.run(root, "sync")).code != 0 and time.monotonic() < deadline:
                time.sleep(2)  # the run's own carrier has not given up and will ask again by itself
            run_dir = program.only_run(root)
            assert late.code == 0, late.out
            assert late.out == f"{run_dir.name}: complete\n"
            client = mlflow_client(address)
            run = client.get_run(sync_state.read_sync_state(run_dir).mlflow_run_id)
            assert run.info.status == "FINISHED"
            for name, points in metric_history(run_dir / "journal.jsonl").items():
                stored = [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, name)]
                assert sorted(stored) == points


@contextmanager
def served(root: Path, port: int) -> Iterator[None]:
    """MLflow's server on this port, over a database of its own."""
    serve = (
        "import sys; from pipeline.tracking.mlflow.ui_server import serve_ui; "
        "sys.exit(serve_ui(sys.argv[1], None, int(sys.argv[2])))"
    )
    command = [sys.executable, "-c", serve, f"sqlite:///{root}/server.db", str(port)]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None and server.stdout.readline().startswith("http://127.0.0.1:")
            yield
        finally:
            server.send_signal(signal.SIGINT)


@pytest.mark.slow
def test_the_ui_serves_the_page_of_the_run_until_ctrl_c(program: Any, tracked: Any, watched: Any) -> None:
    run_dir, _, run, *_ = tracked
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = watched(program.start(run_dir.parent.parent, "ui", "run=latest", f"port={port}"))
    deadline = time.monotonic() + 120
    while "http://" not in process.out.read_text() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert (
        f"http://127.0.0.1:{port}/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}"
        in process.out.read_text()
    )
    with urlopen(f"http://127.0.0.1:{port}/", timeout=20) as answer:
        assert answer.status == 200
    process.send(signal.SIGINT)
    ended = process.end(60)
    assert ended.code == 0 and "Traceback" not in ended.err
