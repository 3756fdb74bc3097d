"""The private names of Optuna that a search needs, and no others: tests/search/test_optuna_private.py names each.

What Optuna offers for these is bound to the process that asked for a trial. A search also writes to trials of others,
which were killed, and to one from the process in which it is trained.
"""

from typing import Any

from optuna.storages import BaseStorage, RDBStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial

CONSTRAINT = "constraints:"  # before the name under which Trial.set_constraint keeps a constraint


def storage_of(study: Study) -> BaseStorage:
    storage: BaseStorage = study._storage
    return storage


def database_of(study: Study) -> RDBStorage | None:
    """Return the database that the study is kept in, below the cache that Optuna puts around it; None for a file."""
    backend = getattr(study._storage, "_backend", study._storage)
    return backend if isinstance(backend, RDBStorage) else None


def id_of(trial: Trial | FrozenTrial) -> int:
    """Return what storages call a trial: unlike its number, another one in each study of a database."""
    return int(trial._trial_id)


def set_user_attr(study: Study, trial: FrozenTrial, key: str, value: Any) -> None:
    storage_of(study).set_trial_user_attr(id_of(trial), key, value)


def set_constraint(study: Study, trial: FrozenTrial, name: str, value: float) -> None:
    storage_of(study).set_trial_system_attr(id_of(trial), f"{CONSTRAINT}{name}", value)


def stale_trial_ids(study: Study, database: RDBStorage) -> list[int]:
    """Return the running trials of which no heartbeat came for the database's grace period."""
    stale: list[int] = database._get_stale_trial_ids(study._study_id)
    return stale
