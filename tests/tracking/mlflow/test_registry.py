"""The registry of a real store: which version is there, and how often a test set was looked at."""

from pathlib import Path

import pytest

from pipeline.tracking.mlflow import registry
from pipeline.tracking.mlflow.mlflow_client import mlflow_client
from pipeline.tracking.mlflow.registry import ModelRegistry
from pipeline.tracking.mlflow.store import MlflowStore

LOOKS, OTHER = "test_looks.aaaaaaaaaaaa", "test_looks.bbbbbbbbbbbb"


@pytest.fixture(params=["sqlite", "server"])
def uri(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(f"{request.param}_uri"))


def test_words_of_a_tag_are_counted_over_all_runs_and_each_run_once(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "PAGE", 2)  # several pages of runs
    store, client = MlflowStore(uri, str(tmp_path / "artifacts")), mlflow_client(uri)

    def judged(uid: str, tag: str, *weights: str, experiment: str = "digits") -> str:
        run_id = store.open_run(experiment=experiment, name=uid, run_uid=uid, time=0, known_id=None).run_id
        for _ in range(2):  # a journal may be replayed
            store.set_tags(run_id, {tag: " ".join(weights)})
        return run_id

    assert ModelRegistry(uri).count_tag_words(LOOKS) == 0
    judged("one", LOOKS, "step-1.ckpt", "step-2.ckpt")
    judged("two", LOOKS, "step-1.ckpt")
    judged("three", LOOKS, "step-1.ckpt", experiment="letters")
    judged("four", OTHER, "step-1.ckpt")
    assert ModelRegistry(uri).count_tag_words(LOOKS) == 4
    client.delete_run(judged("five", LOOKS, "step-1.ckpt"))
    assert ModelRegistry(uri).count_tag_words(LOOKS) == 5, "what was seen cannot be unseen"
    assert ModelRegistry(uri).count_tag_words(OTHER) == 1


def test_a_model_version_without_our_run_id_is_refused_with_the_reason(uri: str, tmp_path: Path) -> None:
    store, client = MlflowStore(uri, str(tmp_path / "artifacts")), mlflow_client(uri)
    location = store.open_run(experiment="old", name="one", run_uid=tmp_path.name, time=0, known_id=None)
    model = client.create_logged_model(location.experiment_id, "model", source_run_id=location.run_id)
    client.finalize_logged_model(model.model_id, "READY")
    from mlflow.entities import LoggedModelOutput

    client.log_outputs(location.run_id, [LoggedModelOutput(model.model_id, step=0)])
    found, name = ModelRegistry(uri), f"digits-{tmp_path.name}"
    before = found.register(name, run_id=location.run_id, tags={"test/accuracy": "0.9"}, description="")
    after = found.register(name, run_id=location.run_id, tags={"validation.value": "0.1"}, description="")
    assert before is not None and after is not None and before.number == after.number == "1"
    assert after.tags == {"test/accuracy": "0.9", "validation.value": "0.1"}
    assert client.get_model_version(name, "1").tags == after.tags
    found.tag(name, {LOOKS: "2"})
    assert client.get_registered_model(name).tags == {LOOKS: "2"}


def test_a_registry_named_in_the_environment_is_ignored(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", f"sqlite:///{tmp_path / 'other.db'}")
    name = f"letters-{tmp_path.name}"
    mlflow_client(uri).create_registered_model(name)
    assert not (tmp_path / "other.db").exists()
