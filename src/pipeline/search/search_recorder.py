"""The MLflow run of a search, which is the parent of the runs of its trials."""

import shlex
import uuid
from pathlib import Path, PurePosixPath
from typing import Any

from optuna.study import Study
from optuna.trial import FrozenTrial

from pipeline.runs import environment
from pipeline.search.plan import CONFIG_FILE, OVERRIDES_FILE, Plan
from pipeline.search.recipe import format_recipe, trial_command
from pipeline.search.storage import LeaderLock, try_lock_folder, try_lock_study, with_retry
from pipeline.search.study import DONE_STATES, best_trial
from pipeline.tracking import sidecar, tracking_uri
from pipeline.tracking.journal import EndStatus, Journal
from pipeline.tracking.shipping.sync_worker import SyncJob
from pipeline.tracking.sync_state import JOURNAL

SYNC_WAIT_SECONDS = 10.0
RESULTS = "results"  # an attribute of the study: {"session": who wrote the newest results, "trials": of how many}


class SearchRecorder:
    """Writes a journal in the search's directory, which a process of its own sends to MLflow with those of the trials.

    Where several sessions work on a search, one in each directory writes a journal, and one of them all leads: it
    records the best score so far, and the results. When that process is gone, another one takes over.
    """

    def __init__(self, plan: Plan, folder: Path, study: Study) -> None:
        self.plan = plan
        self.folder = folder
        self.session = uuid.uuid4().hex
        self.journal_lock = LeaderLock(lambda: try_lock_folder(folder, "recording"))
        self.leader_lock = LeaderLock(lambda: try_lock_study(study, folder, "lead"))
        self.journal: Journal | None = None
        self.recorded: set[int] = set()
        self.sync_worker: sidecar.Sidecar | None = None
        self.study = study
        self.results_before = self._written_results()

    def record_best(self, trials: list[FrozenTrial]) -> None:
        """Record the best score so far, for each trial that has ended since the last call."""
        ended = {trial.number for trial in trials if trial.state in DONE_STATES}
        if not self.journal_lock.acquire():
            return
        if self.journal is None:
            self.journal = self._begin()
            self.recorded = ended  # by an earlier session
        if not self.leader_lock.acquire():
            return
        for number in sorted(ended - self.recorded):
            self.recorded.add(number)
            best = best_trial([trial for trial in trials if trial.number <= number], self.plan)
            if best is not None:
                self.journal.metrics(dict(zip(self.plan.objectives, best.values, strict=True)), step=number)

    def writes_results(self) -> bool:
        """Return whether this process leads the search, so that it writes the results; otherwise end the journal."""
        if self.journal is None and self.journal_lock.acquire(at_once=True):
            self.journal = self._begin()
        # Who led may have ended first and given the lead back, with its results written: once is enough.
        if self.journal is not None and self.leader_lock.acquire(at_once=True) and not self._are_results_written():
            return True
        self.conclude(None, [], None, "FINISHED")
        return False

    def mark_results(self, trials: int) -> None:
        """Tell other sessions of the search that the results of so many trials are written."""
        with_retry(lambda: self.study.set_user_attr(RESULTS, {"session": self.session, "trials": trials}))

    def _are_results_written(self) -> bool:
        """Return whether another session has written the results of all these trials since this one began."""
        written = self._written_results()
        trials = with_retry(lambda: self.study.get_trials(deepcopy=False))
        return written != self.results_before and written["trials"] == sum(t.state in DONE_STATES for t in trials)

    def _written_results(self) -> dict[str, Any]:
        written: dict[str, Any] = with_retry(lambda: self.study.user_attrs).get(RESULTS, {})
        return written

    def conclude(self, best: FrozenTrial | None, files: list[str], sentence: str | None, status: EndStatus) -> None:
        """End the journal, with `files` of the search's directory (a folder stays one in MLflow) and the best trial."""
        if self.journal is None:
            return
        for name in files:
            self.journal.artifact(name, folder=name.rpartition("/")[0] or None)
        if best is not None:
            self.journal.note(self._note(best, sentence, files))
        self.journal.end(status)

    def close(self) -> None:
        """Wait for MLflow, but not long: what was not sent yet is sent when the search is resumed."""
        if self.journal is not None:
            self.journal.close()
        if self.sync_worker is not None:
            self.sync_worker.wait(SYNC_WAIT_SECONDS, for_model=False)
        self.leader_lock.release()
        self.journal_lock.release()

    def _begin(self) -> Journal:
        config, settings = self.plan.config, self.plan.settings
        git = environment.git_state(Path.cwd()) or {}
        tags = {"search": self.folder.name, "mlflow.source.git.commit": git.get("commit")}
        journal = Journal(self.folder / JOURNAL)
        journal.start(
            name=self.folder.name,
            experiment=config.tracking.get("experiment") or config.name,
            run_uid=self.folder.name,
            params={
                **{f"search.{key}": text for key, text in settings.space.items()},
                "sampler": str(settings.sampler._target_).rpartition(".")[2],
            },
            tags={key: value for key, value in tags.items() if value is not None},
        )
        for name in (CONFIG_FILE, OVERRIDES_FILE):
            journal.artifact(name)
        if config.tracking.uri is not None:
            uri = tracking_uri.absolute_uri(config.tracking.uri)
            job = SyncJob(uri, config.tracking.artifacts, on_model=None, trials=True)
            self.sync_worker = sidecar.launch_sync(self.folder, job)
        return journal

    def _note(self, best: FrozenTrial, sentence: str | None, files: list[str]) -> str:
        """Return the note in Markdown. Its `artifact:` links become addresses when it is sent to MLflow."""
        pages = [name for name in files if name.endswith((".html", ".png"))]
        links = " · ".join(f"[{_title(name)}](artifact:{name})" for name in sorted(pages, key=_is_picture))
        pictures = "\n\n".join(f"![{_title(name)}](artifact:{name})" for name in pages if _is_picture(name))
        command = shlex.join(trial_command(self.plan, dict(best.params)))
        recipe = format_recipe(self.plan, dict(best.params))
        return (
            f"**{self.plan.format_scores(best.values)}** (trial {best.number}, on the validation set)\n\n"
            + (f"{links}\n\n" if links else "")
            + (f"{sentence}\n\n" if sentence is not None else "")
            + f"```\n{command}\n```\n\nAs a recipe, `conf/experiment/{self.folder.name}.yaml`:\n\n"
            + f"```yaml\n{recipe}```\n"
            + (f"\n{pictures}\n" if pictures else "")
        )


def _title(name: str) -> str:
    return PurePosixPath(name).stem.replace("_", " ")


def _is_picture(name: str) -> bool:
    return name.endswith(".png")
