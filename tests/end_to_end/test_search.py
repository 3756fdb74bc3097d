"""`pipeline search` as a user types it, with workers and drivers that are killed."""

import json
import signal
from pathlib import Path
from typing import Any

import psutil
from optuna.trial import TrialState
from tests.end_to_end.searches import (
    LONG,
    RATE,
    SMALL,
    done,
    journal_of,
    left_behind,
    trials_in,
    wait_for,
)

from pipeline.config import compose
from pipeline.search import study as studies
from pipeline.tracking import journal


def test_a_search_begins_with_the_default_and_ends_with_a_recipe_of_the_best(program: Any, tmp_path: Path) -> None:
    home = tmp_path / "home"
    ended = program.run(home, *SMALL, RATE, "data.batch_size=64,128", "search.n_trials=5")
    assert ended.code == 0, ended.err + ended.out
    trials = trials_in(home)
    assert [trial.state for trial in trials].count(TrialState.COMPLETE) == 5 == len(trials)
    assert trials[0].params == {"optimizer.learning_rate": 0.01, "data.batch_size": 128}
    best = max(trials, key=lambda trial: trial.value)
    assert f"best        trial {best.number}: val/accuracy {best.value:.4f}" in ended.out
    recipe = home / "conf" / "experiment" / "best.yaml"
    recipe.parent.mkdir(parents=True)
    recipe.write_text((home / "runs" / "searches" / "s" / "best.yaml").read_text())
    composed = compose.compose(["experiment=best"], config_dirs=[str(home / "conf")]).config
    assert composed.optimizer.learning_rate == best.params["optimizer.learning_rate"]
    assert composed.data.batch_size == best.params["data.batch_size"]
    # What the trial says of itself is what was told: the value of the epoch that `train` would keep.
    outcome = json.loads((journal_of(home, best.number).parent / "outcome.json").read_text())
    assert outcome["scores"] == {"val/accuracy": best.value} and outcome["state"] == "FINISHED"
    again = program.run(home, "search", "name=s")
    assert again.code == 0 and len(trials_in(home)) == 5, "there is nothing left to do"
    more = program.run(home, "search", "name=s", "search.n_trials=7")
    assert more.code == 0 and len(done(trials_in(home))) == 7


def test_a_search_leaves_pictures_and_a_page_and_show_makes_them_again(program: Any, tmp_path: Path) -> None:
    home = tmp_path / "home"
    folder = home / "runs" / "searches" / "s"
    ended = program.run(home, *SMALL, RATE, "data.batch_size=64,128", "search.n_trials=3", "search/pruner=none")
    assert ended.code == 0 and f"report      {folder / 'report.html'}" in ended.out, ended.err + ended.out
    pictures = {path.stem for path in (folder / "figures").glob("*.png")}
    assert {"history", "importance", "slices", "parallel", "curves", "timeline"} <= pictures
    records = [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]
    shipped = {(each["path"], each["folder"]) for each in records if each["kind"] == "artifact"}
    assert {("report.html", None), ("figures/history.png", "figures")} <= shipped
    (note,) = [each["text"] for each in records if each["kind"] == "note"]
    assert "[report](artifact:report.html)" in note and "![history](artifact:figures/history.png)" in note
    (folder / "report.html").unlink()
    shown = program.run(home, "search", "show", "s")
    assert shown.code == 0 and "finished; 3 of 3 trials" in shown.out and (folder / "report.html").exists()
    listed = program.run(home, "search", "list")
    assert listed.code == 0 and listed.out.splitlines()[1].split()[:3] == ["s", "finished", "3/3"]


def test_the_same_seed_asks_for_the_same_values_also_when_the_parent_is_killed(program: Any, tmp_path: Path) -> None:
    words = (*SMALL, RATE, "search.n_trials=14")
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    assert program.run(whole, *words).code == 0
    process = program.start(torn, *words)
    wait_for(torn, ended=4, running=0)
    process.send(signal.SIGKILL)
    process.popen.wait()
    ended = program.run(torn, *words)
    assert ended.code == 0, ended.err
    expected, found = done(trials_in(whole)), done(trials_in(torn))
    assert len(found) == 14
    assert [trial.params for trial in found] == [trial.params for trial in expected]
    assert [trial.values for trial in found] == [trial.values for trial in expected]
    assert left_behind(torn) == []


def test_a_killed_worker_is_replaced_and_its_trial_tried_again(program: Any, tmp_path: Path) -> None:
    home = tmp_path / "home"
    process = program.start(home, *SMALL, LONG, RATE, "search.n_trials=4", "search.workers=2")
    victim = wait_for(home, ended=0, running=2)[0]
    psutil.Process(victim.user_attrs[studies.WORKER]["pid"]).kill()
    ended = process.end()
    assert ended.code == 0, ended.err + ended.out
    trials = trials_in(home)
    assert len(done(trials)) == 4 and trials[victim.number].state == TrialState.FAIL
    (again,) = [trial for trial in trials if trial.user_attrs.get(studies.RETRY_OF) == victim.number]
    assert again.params == victim.params and again.state in studies.DONE_STATES
    assert not [trial for trial in trials if not trial.state.is_finished()]


def test_when_the_last_trials_worker_is_killed_it_is_still_finished(program: Any, tmp_path: Path) -> None:
    home = tmp_path / "home"
    process = program.start(home, *SMALL, "trainer.max_epochs=60", RATE, "search.n_trials=2")
    (victim,) = wait_for(home, ended=1, running=1)
    psutil.Process(victim.user_attrs[studies.WORKER]["pid"]).kill()
    ended = process.end()
    assert ended.code == 0, ended.err + ended.out
    trials = trials_in(home)
    assert len(done(trials)) == 2 and not [each for each in trials if not each.state.is_finished()]


def test_constraints_are_kept_by_the_best_and_known_before_training(program: Any, tmp_path: Path) -> None:
    home = tmp_path / "home"
    words = (*SMALL, "model=mlp", "model.widths=[8],[512]", "search=grid", "search.save_as=found")
    ended = program.run(home, *words, "search.constraints={parameters: {max: 20000}}")
    assert ended.code == 0, ended.err + ended.out
    small, large = sorted(trials_in(home), key=lambda trial: trial.state)
    assert (small.state, large.state) == (TrialState.COMPLETE, TrialState.PRUNED)
    assert "beyond search.constraints.parameters.max=20000" in ended.out
    assert not large.intermediate_values, "it was not trained"
    assert max(small.constraints.values()) <= 0 < max(large.constraints.values())
    assert "experiment=found" in ended.out and (home / "conf/experiment/found.yaml").exists()


def test_ctrl_c_keeps_what_there_is_and_the_same_name_goes_on(program: Any, tmp_path: Path) -> None:
    home = tmp_path / "home"
    words = (*SMALL, "trainer.max_epochs=60", RATE, "search.n_trials=3")
    process = program.start(home, *words)
    (running,) = wait_for(home, ended=1, running=1)
    process.send(signal.SIGINT)
    stopped = process.end()
    assert stopped.code == 130 and "to go on: pipeline search name=s" in stopped.out, stopped.out + stopped.err
    assert left_behind(home) == []
    ended = program.run(home, "search", "name=s")
    assert ended.code == 0, ended.err
    trials = trials_in(home)
    assert len(done(trials)) == 3
    assert running.params in [trial.params for trial in done(trials)], "what was stopped is tried again"
    assert studies.failed_trials(trials) == []


def test_a_trial_that_is_worse_than_the_others_is_pruned(program: Any, tmp_path: Path) -> None:
    home = tmp_path / "home"
    pruner = ("search/pruner=median", "search.pruner.n_startup_trials=1", "search.pruner.n_warmup_steps=0")
    rates = "optimizer.learning_rate=0.01,1e-9"
    ended = program.run(home, *SMALL, "trainer.max_epochs=20", rates, "search=grid", *pruner)
    assert ended.code == 0, ended.err + ended.out
    good, bad = trials_in(home)
    assert (good.state, bad.state) == (TrialState.COMPLETE, TrialState.PRUNED)
    assert bad.params == {"optimizer.learning_rate": 1e-9}
    assert len(good.intermediate_values) == 20 and 1 <= len(bad.intermediate_values) < 20, "its curve is kept"


def test_a_worker_that_is_told_twice_to_end_still_puts_its_trial_back(program: Any, tmp_path: Path) -> None:
    home = tmp_path / "home"
    process = program.start(home, *SMALL, "trainer.max_epochs=60", RATE, "search.n_trials=2")
    (victim,) = wait_for(home, ended=0, running=1)
    worker = psutil.Process(victim.user_attrs[studies.WORKER]["pid"])
    for _ in range(20):
        worker.send_signal(signal.SIGUSR1)
        worker.send_signal(signal.SIGTERM)
    ended = process.end()
    trials = trials_in(home)
    assert studies.failed_trials(trials) == [] and trials[victim.number].user_attrs.get(studies.STOPPED), ended.out


def test_a_trial_computes_what_a_training_computes(program: Any, tmp_path: Path) -> None:
    settings = ("data=digits", "model=mlp", "trainer.max_epochs=1", "tracking=none", "callbacks=none", "seed=3")
    trained = program.run(tmp_path, "train", *settings, "optimizer.learning_rate=0.01", "name=alone")
    ended = program.run(tmp_path, "search", *settings, "optimizer.learning_rate=0.01,0.02", "name=s", "search=grid")
    assert trained.code == ended.code == 0, trained.err + ended.err
    (alone,) = tmp_path.glob("runs/*-alone-*/journal.jsonl")
    trials = [journal_of(tmp_path, number) for number in (0, 1)]
    losses = {path: journal.metric_history(path)["train/loss"] for path in (alone, *trials)}
    assert losses[alone] in (losses[trials[0]], losses[trials[1]])
