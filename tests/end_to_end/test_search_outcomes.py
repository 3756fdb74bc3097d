"""What becomes of trials and of their search: broken ones, two objectives, fresh seeds, MLflow, several processes."""

import json
import shutil
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from optuna.trial import TrialState
from tests.end_to_end.searches import (
    LONG,
    PATIENCE_SECONDS,
    RATE,
    SMALL,
    journal_of,
    left_behind,
    trials_in,
    wait_for,
)

from pipeline.search import study as studies
from pipeline.tracking.mlflow.mlflow_client import mlflow_client


def test_values_with_which_the_loss_is_no_number_are_pruned_and_a_trial_that_breaks_down_is_tried_twice(
    program: Any, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    package = home / "my_package"
    package.mkdir(parents=True)
    package.joinpath("__init__.py").write_text("")
    package.joinpath("nets.py").write_text(
        "import os\nfrom torch import nn\n\n\n"
        "class Fragile(nn.Module):\n"
        "    def __init__(self, *, spec, mood: str):\n"
        "        super().__init__()\n"
        "        self.mood = mood\n"
        "        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))\n\n"
        "    def forward(self, images):\n"
        "        if self.mood == 'deadly':\n"
        "            os.abort()\n"
        "        return self.layers(images) * (float('nan') if self.mood == 'hopeless' else 1.0)\n"
    )
    words = (
        "model._target_=my_package.nets.Fragile",
        "allow_packages=[my_package]",
        "+model.mood=fine",
        "model.mood=fine,hopeless,deadly",
        "callbacks=default",
        "search=grid",
        "search.max_failures=1",
    )
    ended = program.run(home, *SMALL, *words)
    assert ended.code == 1 and "2 trials broke down, more than search.max_failures=1" in ended.err, (
        ended.out + ended.err
    )
    trials = [trial for trial in trials_in(home) if trial.state.is_finished()]
    states = {(trial.params["model.mood"], trial.state) for trial in trials}
    assert states == {
        ("fine", TrialState.COMPLETE),
        ("hopeless", TrialState.PRUNED),
        ("deadly", TrialState.FAIL),
    }
    hopeless = next(trial for trial in trials if trial.params["model.mood"] == "hopeless")
    assert "the loss is nan" in hopeless.user_attrs[studies.REASON]
    deadly = [trial for trial in trials if trial.params["model.mood"] == "deadly"]
    assert [trial.user_attrs[studies.REASON] for trial in deadly] == ["killed by SIGABRT"] * 2


def test_two_objectives_and_a_condition(program: Any, tmp_path: Path) -> None:
    home = tmp_path / "home"
    words = (
        "model=softmax_regression,mlp",
        "model.widths=[4],[8]",
        "search.when={model.widths: {model: mlp}}",
        "search.objectives={val/accuracy: maximize, parameters: minimize}",
        "search=grid",
    )
    small = [word for word in SMALL if not word.startswith("model=")]
    ended = program.run(home, *small, *words)
    assert ended.code == 0, ended.err + ended.out
    trials = trials_in(home)
    assert len(trials) == 3 and all(trial.state == TrialState.COMPLETE for trial in trials)
    by_model = {str(trial.params): trial.values[1] for trial in trials}
    assert by_model[str({"model": "softmax_regression"})] == 7_850.0
    assert ended.out.count("best        trial") >= 1


def test_an_objective_that_the_task_does_not_have_is_told_with_the_one_to_type(program: Any, tmp_path: Path) -> None:
    words = ("data=diabetes", "model=linear_regression", "optimizer.learning_rate=0.1,0.3,0.5")
    ended = program.run(tmp_path, "search", *words, "trainer.max_epochs=1", "tracking=none", "name=s")
    assert len(list((tmp_path / "runs/searches/s/trials").glob("*"))) <= 2, "the first tells that no other can do it"
    assert ended.code == 2 and "val/accuracy is no metric of this run" in ended.err
    assert "type 'search.objectives={val/r2: maximize}', or choose one of" in ended.err


def test_what_all_trials_refuse_is_told_once(program: Any, tmp_path: Path) -> None:
    words = ("search=folds", "data=iris", "model=softmax_regression", "data.folds=5", "data.batch_size=5000")
    ended = program.run(tmp_path, "search", *words, "tracking=none", "name=s")
    assert ended.code == 2 and ended.err.count("data.batch_size=5000 is more than") == 1, ended.err
    assert "all trials so far failed for one reason" in ended.err
    assert len(list((tmp_path / "runs/searches/s/trials").glob("*"))) < 5


@pytest.mark.parametrize("harm", ["study.log", "."])
def test_trials_that_are_lost_while_it_runs_are_told_in_a_sentence(
    program: Any, watched: Any, tmp_path: Path, harm: str
) -> None:
    home = tmp_path / "home"
    under_way = watched(program.start(home, *SMALL, RATE, LONG, "search.n_trials=5"))
    wait_for(home, ended=0, running=1)
    lost = home / "runs/searches/s" / harm
    lost.unlink() if harm != "." else shutil.rmtree(lost, ignore_errors=True)
    ended = under_way.end()
    assert ended.code == 2 and "Traceback" not in ended.err and "is gone" in ended.err, ended.err
    assert left_behind(home) == []


def test_the_best_is_judged_on_fresh_seeds_beside_the_default(program: Any, tmp_path: Path) -> None:
    home = tmp_path / "home"
    words = [word for word in SMALL if "final_seeds" not in word]
    ended = program.run(home, *words, "optimizer.learning_rate=0.03,0.02", "search=grid", "search.final_seeds=1")
    assert ended.code == 0, ended.err + ended.out
    assert "test set    test/accuracy" in ended.out and "too few seeds to tell them apart" in ended.out
    assert "the default of optimizer.learning_rate is not among its values" in ended.out
    kept = json.loads((home / "runs" / "searches" / "s" / "final.json").read_text())
    assert sorted(entry["kind"] for entry in kept.values()) == ["best", "default"]
    for entry in kept.values():
        assert program.result(Path(entry["run"]))["metrics"] == entry["metrics"]
    for trial in trials_in(home):
        text = journal_of(home, trial.number).read_text()
        assert "val/accuracy" in text and "test/" not in text


def test_in_mlflow_the_search_stands_above_its_trials(program: Any, tmp_path: Path) -> None:
    home = tmp_path / "home"
    words = [word for word in SMALL if word != "tracking=none"]
    ended = program.run(home, *words, "optimizer.learning_rate=0.01,1e-9", "search=grid", "trainer.max_epochs=3")
    assert ended.code == 0, ended.err + ended.out
    client = mlflow_client(f"sqlite:///{home}/runs/mlflow.db")
    (experiment,) = [each for each in client.search_experiments() if each.name == "mnist5k"]
    deadline = time.monotonic() + PATIENCE_SECONDS
    while len(runs := client.search_runs([experiment.experiment_id])) < 3 or any(
        run.info.status == "RUNNING" for run in runs
    ):
        assert time.monotonic() < deadline, runs
        time.sleep(0.2)
    (parent,) = [run for run in runs if run.info.run_name == "s"]
    children = [run for run in runs if run is not parent]
    trials = trials_in(home)
    best = max(trials, key=lambda trial: trial.values[0])
    assert parent.info.status == "FINISHED" and parent.data.metrics["val/accuracy"] == best.values[0]
    note = parent.data.tags["mlflow.note.content"]
    assert note.startswith(f"**val/accuracy {best.values[0]:.4f}**") and "optimizer.learning_rate=0.01" in note
    assert {"config.yaml", "best.yaml"} <= {file.path for file in client.list_artifacts(parent.info.run_id)}
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    assert {run.info.run_name for run in children} == {"0 learning_rate=0.01", "1 learning_rate=1e-09"}
    for run in children:
        trial = trials[int(run.data.tags["trial"])]
        points = client.get_metric_history(run.info.run_id, "val/accuracy")
        assert [point.value for point in points] == list(trial.intermediate_values.values())
        assert run.data.params["optimizer.learning_rate"] == str(trial.params["optimizer.learning_rate"])


@pytest.mark.slow
def test_trials_of_two_processes_are_pruned_together(program: Any, tmp_path: Path) -> None:
    home = tmp_path / "home"
    pruner = ("search/pruner=median", "search.pruner.n_startup_trials=1", "search.pruner.n_warmup_steps=0")
    rates = "optimizer.learning_rate=0.01,1e-9"
    devices = ("trainer.devices=2", "trainer.accelerator=cpu", "trainer.max_epochs=6")
    ended = program.run(home, *SMALL, *devices, rates, "search=grid", *pruner)
    assert ended.code == 0, ended.err + ended.out
    good, bad = trials_in(home)
    assert (good.state, bad.state) == (TrialState.COMPLETE, TrialState.PRUNED)
    assert left_behind(home) == []


def test_a_search_that_goes_on_may_not_become_another_one(program: Any, tmp_path: Path) -> None:
    home = tmp_path / "home"
    assert program.run(home, *SMALL, "seed=1,2", "search=grid").code == 0
    refused = program.run(home, *SMALL, "seed=1,2,3")
    assert refused.code == 2 and "the search s has begun without it" in refused.err and "Traceback" not in refused.err
    for word in ("search.n_trials=abc", "search.workers=0", "search.timeout=5", "interval(1"):
        wrong = program.run(home, "search", "name=s", word)
        assert wrong.code == 2 and word in wrong.err and "Traceback" not in wrong.err, wrong.err
    typo = program.run(home, "search", "model=cnn,mpl")
    assert (
        typo.code == 2 and "model=mpl does not exist" in typo.err and not (home / "runs" / "searches" / "cnn").exists()
    )


@pytest.mark.slow
@pytest.mark.cold  # a warm worker has the fork server of its own beside it
def test_two_hundred_trials_leave_a_workers_memory_as_it_was(program: Any, tmp_path: Path) -> None:
    home = tmp_path / "home"
    quick = ("trainer.max_epochs=1", "data.train_fraction=0.1", "search/sampler=random", "search/pruner=none")
    process = program.start(home, *SMALL, *quick, RATE, "search.n_trials=200")

    def megabytes_after(count: int) -> float:
        deadline = time.monotonic() + 4 * PATIENCE_SECONDS
        while len(found := list((home / "runs/searches/s/trials").glob("*/outcome.json"))) < count:
            assert time.monotonic() < deadline and process.popen.poll() is None, (len(found), process.err.read_text())
            time.sleep(0.1)
        (worker,) = psutil.Process(process.popen.pid).children()
        return float(worker.memory_info().rss / 1e6)

    early, late = megabytes_after(20), megabytes_after(195)
    assert process.end().code == 0
    assert late - early < 20, f"{early:.0f} MB after 20 trials, {late:.0f} MB after 195"
