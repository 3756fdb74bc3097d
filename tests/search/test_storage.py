"""The file in which trials are kept, when a disk or a kill cuts it short."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy

from pipeline.config.frozen import TrustPolicy
from pipeline.errors import RunError, UserError
from pipeline.search import plan as plans
from pipeline.search import storage
from pipeline.search import study as studies
from pipeline.search.storage import (
    STUDY_FILE,
    TRIALS_FOLDER,
    LeaderLock,
    StudyLost,
    open_storage,
    try_lock_folder,
    with_retry,
)


def test_a_line_that_was_cut_short_is_removed_by_the_next_writer(tmp_path: Path) -> None:
    study = optuna.create_study(study_name="s", storage=open_storage(None, tmp_path))
    study.tell(study.ask({"x": optuna.distributions.FloatDistribution(0, 1)}), 0.5)
    path = tmp_path / STUDY_FILE
    whole = path.read_bytes()
    for torn in (b'{"op_code":5,"wor', b"", b"x" * 9000):
        path.write_bytes(whole + torn)
        study = optuna.load_study(study_name="s", storage=open_storage(None, tmp_path))
        assert [trial.value for trial in study.trials] == [0.5]
        study.set_user_attr("after", torn.decode())
        again = optuna.load_study(study_name="s", storage=open_storage(None, tmp_path))
        assert again.user_attrs == {"after": torn.decode()} and len(again.trials) == 1


def deleted(path: Path) -> None:
    path.unlink()


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:40] + b"\n")


def replaced(path: Path) -> None:
    path.with_name("other").write_bytes(path.read_bytes())
    path.with_name("other").replace(path)


def overwritten(path: Path) -> None:
    path.write_bytes(b"\0" * path.stat().st_size + b"\n" + path.read_bytes())


def folder_deleted(path: Path) -> None:
    shutil.rmtree(path.parent)


@pytest.mark.parametrize("harm", [deleted, emptied, cut, replaced, folder_deleted])
@pytest.mark.parametrize("act", [lambda study: study.get_trials(), lambda study: study.ask()], ids=["read", "write"])
def test_a_study_file_that_was_deleted_cut_or_replaced_is_refused_in_a_sentence(
    tmp_path: Path, harm: Callable[[Path], None], act: Callable[[Any], Any]
) -> None:
    folder = tmp_path / "s"
    folder.mkdir()
    study = optuna.create_study(study_name="s", storage=open_storage(None, folder))
    study.ask()
    harm(folder / STUDY_FILE)
    with pytest.raises(StudyLost, match=r"is gone|was cut or replaced"):
        act(study)


@pytest.mark.parametrize("harm", [deleted, emptied, overwritten, cut])
def test_a_search_whose_study_is_lost_is_not_resumed(tmp_path: Path, harm: Callable[[Path], None]) -> None:
    plan = plans.create_plan(["seed=1,2", f"runs_dir={tmp_path}"])
    studies.create_study(plan, tmp_path)
    (tmp_path / TRIALS_FOLDER / "0000").mkdir(parents=True)
    harm(tmp_path / STUDY_FILE)
    with pytest.raises(StudyLost, match="begin another search with another name="):
        studies.create_study(plan, tmp_path)


def test_a_search_whose_study_is_there_is_resumed(tmp_path: Path) -> None:
    plan = plans.create_plan(["seed=1,2", f"runs_dir={tmp_path}"])
    studies.create_study(plan, tmp_path)
    (tmp_path / TRIALS_FOLDER / "0000").mkdir(parents=True)
    assert len(studies.create_study(plan, tmp_path).trials) == 1


def test_a_directory_of_another_version_is_refused_in_a_sentence(tmp_path: Path) -> None:
    plans.create_plan(["seed=1,2", f"runs_dir={tmp_path}"]).save(tmp_path)
    config = tmp_path / plans.CONFIG_FILE
    for content in ("", "- 1\n", "search:\n  space: {}\n", "search: [\n"):
        config.write_text(content)
        with pytest.raises(UserError, match=r"holds no search of this version|holds no configuration|is damaged"):
            plans.load_plan(tmp_path, TrustPolicy())


def test_only_one_process_at_a_time_holds_a_lock(tmp_path: Path) -> None:
    with try_lock_folder(tmp_path, "lead") as first, try_lock_folder(tmp_path, "lead") as second:
        assert (first, second) == (True, False)
    with try_lock_folder(tmp_path, "lead") as third:
        assert third


def test_a_leader_lock_is_tried_again_after_the_database_was_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "HEARTBEAT_SECONDS", 0)
    answers: Iterator[Exception | bool] = iter(
        [sqlalchemy.exc.InterfaceError("lead", {}, Exception("away")), False, True]
    )

    @contextmanager
    def asked() -> Iterator[bool]:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        yield answer

    lock = LeaderLock(asked)
    assert [lock.acquire(), lock.acquire(), lock.acquire(), lock.acquire()] == [False, False, True, True]
    lock.release()


def test_a_database_that_does_not_come_back_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "RETRY_TIMEOUT_SECONDS", 0.1)
    monkeypatch.setattr(storage, "RETRY_PAUSE_SECONDS", 0.05)

    def unanswered() -> None:
        raise sqlalchemy.exc.OperationalError("SELECT 1", {}, Exception("connection refused"))

    with pytest.raises(RunError, match="the database of the search does not answer"):
        with_retry(unanswered)
