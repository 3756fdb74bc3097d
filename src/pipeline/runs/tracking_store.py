"""To which MLflow a run's journal goes. Who wrote the run's configuration may not choose who learns our password."""

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
    """The run's own, unless another one is typed; None for a run that goes to none.

    Raises RunError where the run directory was not made by this user and names a place of which nobody has asked them:
    user, password and token would go there.
    """
    named, typed = run.config().tracking, {key: value for key, value in (typed or {}).items() if value}
    uri = typed.get(URI, named.uri)
    if uri is None:
        return None
    # Where other runs keep their files says nothing of where those of a store that was typed are to be.
    artifacts = typed.get(ARTIFACTS, None if URI in typed and typed[URI] != named.uri else named.artifacts)
    for key, place in ((URI, uri), (ARTIFACTS, artifacts)):
        if place is not None and key not in typed and not may_receive_credentials(run, place):
            raise RunError(
                f"{run.id} was not made by you on this machine, and names {key}={tracking_uri.redacted(place)}: your "
                "user, password or token of MLflow would go there. Where that is right, or to send the run elsewhere, "
                f"type it:  pipeline {verb} run={run.id} {key}={tracking_uri.redacted(place)}"
            )
    return TrackingStore(uri, artifacts)


def export_command(run: Run) -> list[str]:
    """Puts the run's best model into MLflow; run by whoever carries the journal there."""
    return module_command("pipeline.lifecycle.export", *run.words)


def may_receive_credentials(run: Run, place: str) -> bool:
    """Whether this user has chosen the place, or nothing secret goes there."""
    database = tracking_uri.sqlite_file(place)
    if database is not None and database.exists():
        return True
    is_folder = "://" not in place or place.startswith("file://")
    return is_folder or place == os.environ.get("MLFLOW_TRACKING_URI") or run.is_made_here
