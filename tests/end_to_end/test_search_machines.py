"""A search of several machines: a real PostgreSQL that all reach, and host names of their own."""

import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import psutil
import pytest
from optuna.trial import TrialState
from tests.end_to_end.conftest import Process
from tests.end_to_end.searches import LONG, RATE, SMALL, done, left_behind, trials_in, wait_for
from tests.tracking import servers

from pipeline.search import study as studies
from pipeline.search.storage import open_storage

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with servers.postgres(tmp_path_factory.mktemp("postgres")) as (address, password, server):
        patch = pytest.MonkeyPatch()
        patch.setenv("PGPASSWORD", password)
        yield address, server
        patch.undo()


@pytest.fixture
def storage(database: Any) -> Iterator[str]:
    """For one search; the next one has the name again."""
    address, _ = database
    yield f"search.storage={address}"
    optuna.delete_study(study_name="s", storage=open_storage(address, Path()))


@pytest.fixture
def elsewhere(program: Any) -> Any:
    """The same program on a machine of another name."""
    if subprocess.run(["unshare", "--uts", "true"], check=False, capture_output=True).returncode != 0:
        pytest.skip("no other host name can be had here: that takes root")

    def start(folder: Path, *arguments: str) -> Process:
        folder.mkdir(parents=True)
        renamed = ["unshare", "--uts", "sh", "-c", 'hostname elsewhere; exec "$0" "$@"']
        return Process([*renamed, program.PATH, *arguments], folder, {})

    return start


def test_machines_that_share_a_database_search_together(
    program: Any, elsewhere: Any, tmp_path: Path, storage: str
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    words = (*SMALL, "trainer.max_epochs=60", RATE, "data.batch_size=64,128", "search.n_trials=16", storage)
    first = program.start(here, *words)
    wait_for(here, ended=1, running=0)
    second = elsewhere(there, "search", "name=s", storage)
    ended = [first.end(), second.end()]
    assert [each.code for each in ended] == [0, 0], [each.out + each.err for each in ended]
    trials = trials_in(here)
    assert len(done(trials)) == 16
    assert {trial.user_attrs[studies.WORKER]["host"] for trial in done(trials)} >= {"elsewhere"}
    assert len({(trial.number, str(trial.params)) for trial in done(trials)}) == 16
    concluded = [each for each in ended if "best        trial" in each.out]
    assert len(concluded) == 1, "one of them has the last word"


def test_what_a_machine_that_is_gone_was_training_is_trained_by_another(
    program: Any, elsewhere: Any, tmp_path: Path, storage: str
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    gone = elsewhere(there, *SMALL, LONG, RATE, "search.n_trials=3", storage)
    (victim,) = wait_for(there, ended=0, running=1)
    for process in [*psutil.Process(gone.popen.pid).children(recursive=True), psutil.Process(gone.popen.pid)]:
        process.kill()
    ended = program.run(here, "search", "name=s", storage)
    assert ended.code == 0, ended.out + ended.err
    trials = trials_in(here)
    assert len(done(trials)) == 3 and trials[victim.number].state == TrialState.FAIL
    (again,) = [trial for trial in trials if trial.user_attrs.get(studies.RETRY_OF) == victim.number]
    assert again.params == victim.params and again.state in studies.DONE_STATES
    assert not [trial for trial in trials if not trial.state.is_finished()]
    assert left_behind(here) == []


def test_a_database_that_is_restarted_costs_a_search_nothing(
    program: Any, tmp_path: Path, database: Any, storage: str
) -> None:
    _, server = database
    home = tmp_path / "home"
    process = program.start(home, *SMALL, "trainer.max_epochs=20", RATE, "search.n_trials=4", storage)
    wait_for(home, ended=1, running=1)
    server.kill(signal.SIGINT)
    time.sleep(5)
    server.start()
    ended = process.end()
    assert ended.code == 0, ended.out + ended.err
    trials = trials_in(home)
    assert len(done(trials)) == 4 == len(trials)


def test_a_database_that_is_not_there_is_named(program: Any, tmp_path: Path) -> None:
    ended = program.run(tmp_path / "home", *SMALL, RATE, "search.storage=postgresql://me@127.0.0.1:1/none")
    assert ended.code == 2 and "Traceback" not in ended.err
    assert "search.storage=postgresql://***@127.0.0.1:1/none" in ended.err and "refused" in ended.err
