"""What a tracking store is asked for, in plain values, whoever answers: a server, a database, another process."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol


class Point(NamedTuple):
    """One value of one metric; time in ms since 1970."""

    name: str
    value: float
    time: int
    step: int


class StoredRun(NamedTuple):
    """`is_active` is False once it was deleted; `files` is the URI below which its files are kept."""

    experiment_id: str
    run_id: str
    is_active: bool
    files: str


class StoredExperiment(NamedTuple):
    experiment_id: str
    is_active: bool


class Backend(Protocol):
    """Every method raises Unavailable or Refused, and nothing else. All but the two that create may be repeated."""

    def run(self, run_id: str) -> StoredRun | None: ...

    def run_tagged(self, experiment_id: str, tag: str, text: str) -> StoredRun | None: ...

    def create_run(self, experiment_id: str, name: str, time: int, tags: Mapping[str, str]) -> StoredRun: ...

    def experiment(self, name: str) -> StoredExperiment | None: ...

    def create_experiment(self, name: str, place: str | None) -> str:
        """The new one's id. `place` is where its files shall be; None leaves that to the store."""

    def log_batch(
        self,
        run_id: str,
        *,
        metrics: Sequence[Point] = (),
        params: Sequence[tuple[str, str]] = (),
        tags: Sequence[tuple[str, str]] = (),
    ) -> None: ...

    def update_run(self, run_id: str, status: str, time: int | None) -> None: ...

    def log_dataset(self, run_id: str, dataset: Mapping[str, str]) -> None: ...

    def log_artifact(self, run_id: str, path: str, folder: str | None) -> None: ...
