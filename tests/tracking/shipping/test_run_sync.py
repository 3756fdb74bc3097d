import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.tracking import sync_state
from pipeline.tracking.journal import DIVERGED_TAG, Journal
from pipeline.tracking.mlflow.mlflow_client import Unavailable, mlflow_client
from pipeline.tracking.mlflow.store import MlflowStore
from pipeline.tracking.shipping.run_sync import MODEL_ATTEMPTS, RunSync, Uploads

Begin = Callable[..., None]


@pytest.fixture
def store(uri: str, tmp_path: Path) -> MlflowStore:
    return MlflowStore(uri, str(tmp_path / "artifacts"))


@pytest.fixture
def held(uri: str, contents: Callable[[str], Any]) -> Any:
    return contents(uri)


def shipped(run_dir: Path, store: MlflowStore) -> str:
    """A fresh process's view: what the journal holds is shipped from where the last one stopped."""
    sync = RunSync(run_dir, store)
    sync.send_new()
    assert sync.run_id is not None
    return sync.run_id


def test_a_journal_becomes_a_run_in_mlflow(
    run_dir: Path, journal: Journal, begin: Begin, store: MlflowStore, held: Any
) -> None:
    begin(journal, model="cnn", learning_rate=1e-3)
    journal.dataset("mnist5k", "ab" * 32, {"train": 3_500})
    for step in range(3):
        journal.metrics({"train/loss": 1.0 / (step + 1)}, step=step, epoch=0)
    journal.note("**98.5 %** on the test set")
    journal.end("FAILED", error="ValueError: no")
    run_id = shipped(run_dir, store)
    run = held.run(run_id)
    assert list(run.data.params.items()) == [("model", "cnn"), ("learning_rate", "0.001")]
    assert held.points(run_id, "train/loss") == [(0, 1.0), (1, 0.5), (2, 1 / 3)]
    assert (run.info.status, run.data.tags["error"], run.data.tags["device"]) == (
        "FAILED",
        "ValueError: no",
        "cpu",
    )
    assert run.data.tags["mlflow.note.content"] == "**98.5 %** on the test set"
    assert run.inputs.dataset_inputs[0].dataset.name == "mnist5k"
    assert sync_state.read_sync_state(run_dir).complete


def test_files_in_a_description_are_linked_to_their_pages_in_mlflow(
    run_dir: Path, journal: Journal, begin: Begin, store: MlflowStore, held: Any
) -> None:
    begin(journal)
    journal.note("[the report](artifact:report.html) of [Bishop](https://x.org)\n![curves](artifact:figures/a b.png)")
    run_id = shipped(run_dir, store)
    run = held.run(run_id)
    page = f"#/experiments/{run.info.experiment_id}/runs/{run_id}/artifacts"
    assert run.data.tags["mlflow.note.content"] == (
        f"[the report]({page}/report.html?workflowType=machine_learning) of [Bishop](https://x.org)\n"
        f"![curves](get-artifact?path=figures/a%20b.png&run_uuid={run_id})"
    )


def test_nothing_is_sent_before_the_journal_names_the_run(
    run_dir: Path, journal: Journal, begin: Begin, store: MlflowStore, held: Any
) -> None:
    journal.metrics({"loss": 1.0}, step=0)
    sync = RunSync(run_dir, store)
    sync.send_new()
    assert sync.run_id is None
    begin(journal)
    sync.send_new()
    assert sync.run_id is not None
    assert held.points(sync.run_id, "loss") == [(0, 1.0)]


def test_a_journal_replayed_from_its_beginning_changes_nothing(
    run_dir: Path, journal: Journal, begin: Begin, store: MlflowStore, held: Any
) -> None:
    begin(journal, depth=3)
    for step in range(1_500):
        journal.metrics({"a": float(step), "b": math.nan}, step=step)
    journal.end("FINISHED")
    run_id = shipped(run_dir, store)
    (run_dir / "sync.json").unlink()
    assert shipped(run_dir, store) == run_id
    assert [len(held.points(run_id, name)) for name in "ab"] == [1_500, 1_500]


def test_infinities_are_dropped_and_counted_and_odd_names_rewritten_with_a_tag(
    run_dir: Path, journal: Journal, begin: Begin, store: MlflowStore, held: Any
) -> None:
    begin(journal)
    journal.metrics({"loss": math.inf, "acc@1": 0.5, "nan": math.nan}, step=0)
    journal.metrics({"loss": -math.inf, "acc@1": 0.6}, step=1)
    run = held.run(shipped(run_dir, store))
    (rewritten,) = (name for name in run.data.metrics if name.startswith("acc_1-"))
    assert run.data.metrics[rewritten] == 0.6 and math.isnan(run.data.metrics["nan"])
    assert "loss" not in run.data.metrics
    assert (run.data.tags["dropped.infinite_values"], run.data.tags[f"renamed.{rewritten}"]) == ("2", "acc@1")


def test_unicode_long_params_and_ten_thousand_names_arrive_despite_a_torn_line(
    run_dir: Path, journal: Journal, begin: Begin, store: MlflowStore, held: Any
) -> None:
    begin(journal, größe="日本語 ✓", long="x" * 9_000)
    for first in range(0, 10_000, 500):
        journal.metrics({f"layer/{number}": number / 7 for number in range(first, first + 500)}, step=0)
    journal.metrics({"Genauigkeit/größe ✓": 0.5, "損失": 0.25}, step=1)
    with journal.path.open("ab") as file:
        file.write(b'{"kind":"metrics","time":1,"step":2,"values":{"lo')
    run = held.run(shipped(run_dir, store))
    assert run.data.params["größe"] == "日本語 ✓" and len(run.data.params["long"]) == 6_000
    assert run.data.metrics["layer/9999"] == 9_999 / 7
    assert len(run.data.metrics) == 10_002
    assert run.data.metrics["損失"] == 0.25
    (rewritten,) = (name for name in run.data.metrics if name.startswith("Genauigkeit/größe _-"))
    assert run.data.tags[f"renamed.{rewritten}"] == "Genauigkeit/größe ✓"


@pytest.mark.parametrize("shipped_before_the_kill", [True, False])
def test_after_a_resume_each_point_is_stored_once_whatever_had_been_sent(
    run_dir: Path,
    journal: Journal,
    begin: Begin,
    store: MlflowStore,
    held: Any,
    shipped_before_the_kill: bool,
) -> None:
    begin(journal)
    for step in range(90):
        journal.metrics({"loss": step / 7, "system/load": 1.0}, step=step)
    if shipped_before_the_kill:
        shipped(run_dir, store)
    again = Journal(journal.path)
    again.resume(step=60)
    for step in range(60, 120):
        again.metrics({"loss": step / 7}, step=step)
    again.end("FINISHED")
    again.close()
    run_id = shipped(run_dir, store)
    assert sorted(held.points(run_id, "loss")) == [(step, step / 7) for step in range(120)]
    assert DIVERGED_TAG not in held.run(run_id).data.tags
    assert held.run(run_id).info.status == "FINISHED"


def test_a_resumed_run_has_the_status_running_again(
    run_dir: Path, journal: Journal, begin: Begin, store: MlflowStore, held: Any
) -> None:
    begin(journal)
    journal.end("KILLED")
    run_id = shipped(run_dir, store)
    assert held.run(run_id).info.status == "KILLED"
    journal.resume(step=0)
    assert shipped(run_dir, store) == run_id
    assert held.run(run_id).info.status == "RUNNING"


def test_a_run_deleted_in_mlflow_is_created_again_from_the_whole_journal(
    run_dir: Path, journal: Journal, begin: Begin, store: MlflowStore, held: Any
) -> None:
    begin(journal)
    journal.metrics({"loss": 1.0}, step=0)
    sync = RunSync(run_dir, store)
    sync.send_new()
    deleted = sync.run_id
    mlflow_client(store.uri).delete_run(deleted or "")
    journal.metrics({"loss": 0.5}, step=1)
    with pytest.raises(Unavailable, match="deleted"):
        sync.send_new()
    sync.send_new()
    assert sync.run_id not in (None, deleted)
    assert held.points(sync.run_id, "loss") == [(0, 1.0), (1, 0.5)]


def test_files_follow_the_metrics_and_a_missing_one_delays_nothing(
    run_dir: Path, journal: Journal, begin: Begin, store: MlflowStore, held: Any
) -> None:
    begin(journal)
    (run_dir / "config.yaml").write_text("a: 1")
    (run_dir / "curve.png").write_text("png")
    for path, folder in (("config.yaml", None), ("missing.txt", None), ("curve.png", "figures")):
        journal.artifact(path, folder)
    sync = RunSync(run_dir, store)
    uploads = Uploads(sync, None)
    assert not uploads.send_next()
    sync.send_new()
    assert [uploads.send_next() for _ in range(4)] == [True, True, True, False]
    assert sync.run_id is not None
    assert held.files(sync.run_id) == ["config.yaml", "figures"]


OUTSIDE = {
    "by a relative path": lambda run_dir, key: "../private_key",
    "by an absolute path": lambda run_dir, key: str(key),
    "through a link": lambda run_dir, key: link(run_dir / "notes.txt", key).name,
    "through a folder that is a link": lambda run_dir, key: f"{link(run_dir / 'figures', key.parent).name}/private_key",
    "by way of a folder of its own": lambda run_dir, key: "checkpoints/../../private_key",
    "a folder": lambda run_dir, key: "..",
    "itself": lambda run_dir, key: ".",
}


def link(path: Path, target: Path) -> Path:
    path.symlink_to(target)
    return path


@pytest.mark.parametrize("named", OUTSIDE.values(), ids=OUTSIDE)
def test_a_file_outside_of_the_run_directory_is_never_sent(
    run_dir: Path,
    journal: Journal,
    begin: Begin,
    store: MlflowStore,
    held: Any,
    named: Callable[[Path, Path], str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    key = run_dir.parent / "private_key"
    key.write_text("secret")
    (run_dir / "checkpoints").mkdir()
    (run_dir / "own.txt").write_text("mine")
    begin(journal)
    for path in (named(run_dir, key), "own.txt"):
        journal.artifact(path)
    sync = RunSync(run_dir, store)
    uploads = Uploads(sync, None)
    sync.send_new()
    while uploads.send_next():
        pass
    assert held.files(sync.run_id) == ["own.txt"]
    assert "is no file of the run, and is not sent" in caplog.text


def test_a_model_that_cannot_be_logged_is_retried_and_then_left_for_sync(
    run_dir: Path, journal: Journal, begin: Begin, store: MlflowStore
) -> None:
    begin(journal)
    journal.model()
    sync = RunSync(run_dir, store)
    sync.send_new()
    uploads = Uploads(sync, [sys.executable, "-c", "raise SystemExit(3)"])
    for _ in range(MODEL_ATTEMPTS):
        assert uploads.send_next(), "the command is started"
        with pytest.raises(Unavailable, match="exit code 3"):
            wait_until_false(uploads.send_next)
    assert uploads.are_stuck and not uploads.send_next()
    assert sync_state.read_sync_state(run_dir).waiting == "the model"


def wait_until_false(look: Callable[[], bool]) -> None:
    while look():
        time.sleep(0.01)
