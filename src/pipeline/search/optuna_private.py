"""The private names of Optuna that a search needs; tests/test_private_names.py checks each of them.

Optuna's public functions for these work only in the process that asked for a trial. A search also writes to the trials
of killed workers, and to a trial from the process that trains it.
"""

from typing import Any

from optuna.storages import BaseStorage, RDBStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial

CONSTRAINT = "constraints:"  # the prefix of a name with which Trial.set_constraint stores a constraint


def study_storage(study: Study) -> BaseStorage:
    storage: BaseStorage = study._storage
    return storage


def study_database(study: Study) -> RDBStorage | None:
    """Return the database of the study, without the cache that Optuna puts around it; None for a file."""
    backend = getattr(study._storage, "_backend", study._storage)
    return backend if isinstance(backend, RDBStorage) else None


def trial_id_of(trial: Trial | FrozenTrial) -> int:
    """Return the id of a trial in its storage: unlike its number, it is unique in a database."""
    return int(trial._trial_id)


def set_user_attr(study: Study, trial: FrozenTrial, key: str, value: Any) -> None:
    study_storage(study).set_trial_user_attr(trial_id_of(trial), key, value)


def set_constraint(study: Study, trial: FrozenTrial, name: str, value: float) -> None:
    study_storage(study).set_trial_system_attr(trial_id_of(trial), f"{CONSTRAINT}{name}", value)


def stale_trial_ids(study: Study, database: RDBStorage) -> list[int]:
    """Return the ids of running trials without a heartbeat for the database's grace period."""
    stale: list[int] = database._get_stale_trial_ids(study._study_id)
    return stale
