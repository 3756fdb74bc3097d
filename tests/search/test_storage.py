"""The file in which trials are kept, when a disk or a kill cuts it short."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import optuna
import pytest
import sqlalchemy

from pipeline.errors import RunError
from pipeline.search import storage
from pipeline.search.storage import STUDY, Turn, held_in, open_storage, patiently


def test_a_line_that_was_cut_short_is_taken_back_by_the_next_writer(tmp_path: Path) -> None:
    study = optuna.create_study(study_name="s", storage=open_storage(None, tmp_path))
    study.tell(study.ask({"x": optuna.distributions.FloatDistribution(0, 1)}), 0.5)
    path = tmp_path / STUDY
    whole = path.read_bytes()
    for torn in (b'{"op_code":5,"wor', b"", b"x" * 9000):
        path.write_bytes(whole + torn)
        study = optuna.load_study(study_name="s", storage=open_storage(None, tmp_path))
        assert [trial.value for trial in study.trials] == [0.5]
        study.set_user_attr("after", torn.decode())
        again = optuna.load_study(study_name="s", storage=open_storage(None, tmp_path))
        assert again.user_attrs == {"after": torn.decode()} and len(again.trials) == 1


def test_of_several_that_want_it_one_is_let_in(tmp_path: Path) -> None:
    with held_in(tmp_path, "lead") as first, held_in(tmp_path, "lead") as second:
        assert (first, second) == (True, False)
    with held_in(tmp_path, "lead") as third:
        assert third


def test_the_lead_is_asked_for_again_when_the_database_was_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "BEAT_SECONDS", 0)
    answers: Iterator[Exception | bool] = iter(
        [sqlalchemy.exc.InterfaceError("lead", {}, Exception("away")), False, True]
    )

    @contextmanager
    def asked() -> Iterator[bool]:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        yield answer

    turn = Turn(asked)
    assert [turn.is_mine(), turn.is_mine(), turn.is_mine(), turn.is_mine()] == [False, False, True, True]
    turn.give_back()


def test_a_database_that_stays_away_is_told_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr(storage, "PAUSE_SECONDS", 0.05)

    def unanswered() -> None:
        raise sqlalchemy.exc.OperationalError("SELECT 1", {}, Exception("connection refused"))

    with pytest.raises(RunError, match="the database of the search does not answer"):
        patiently(unanswered)
