"""The MLflow store of a run. The author of a run's configuration must not choose who receives our password."""

import os
from collections.abc import Mapping
from typing import NamedTuple

from pipeline.errors import RunError
from pipeline.runs.run_directory import Run
from pipeline.system.process import module_command
from pipeline.tracking import tracking_uri

URI, ARTIFACTS = "tracking.uri", "tracking.artifacts"


class TrackingStore(NamedTuple):
    uri: str
    artifacts: str | None


def tracking_store_of(run: Run, typed: Mapping[str, str] | None = None, *, verb: str = "sync") -> TrackingStore | None:
    """Return the store that the user typed, else the run's own; None for a run that is not tracked.

    Raises RunError if another user made the run and the user has not typed the store that it names: user, password and
    token would go there.
    """
    named, typed = run.config().tracking, {key: value for key, value in (typed or {}).items() if value}
    uri = typed.get(URI, named.uri)
    if uri is None:
        return None
    # The artifact folder of the run's own store says nothing about the artifacts of another store.
    artifacts = typed.get(ARTIFACTS, None if URI in typed and typed[URI] != named.uri else named.artifacts)
    for key, place in ((URI, uri), (ARTIFACTS, artifacts)):
        if place is not None and key not in typed and not may_receive_credentials(run, place):
            raise RunError(
                f"{run.id} was not made by you on this machine, and names {key}={tracking_uri.redact(place)}: your "
                "user, password or token of MLflow would go there. Where that is right, or to send the run elsewhere, "
                f"type it:  pipeline {verb} run={run.id} {key}={tracking_uri.redact(place)}"
            )
    return TrackingStore(uri, artifacts)


def export_command(run: Run) -> list[str]:
    """Return the command that logs the run's best model to MLflow; the process that sends the journal runs it."""
    return module_command("pipeline.lifecycle.export", *run.process_arguments)


def may_receive_credentials(run: Run, place: str) -> bool:
    """Return whether this user chose the address, or nothing secret is sent to it."""
    database = tracking_uri.sqlite_file(place)
    if database is not None and database.exists():
        return True
    is_folder = "://" not in place or place.startswith("file://")
    return is_folder or place == os.environ.get("MLFLOW_TRACKING_URI") or run.is_made_here
