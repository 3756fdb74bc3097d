"""What a search leaves in MLflow: a run of its own, above those of its trials."""

import shlex
from pathlib import Path, PurePosixPath
from typing import Any

from optuna.study import Study
from optuna.trial import FrozenTrial

from pipeline.runs import environment
from pipeline.search import study as studies
from pipeline.search.display import best_of
from pipeline.search.plan import CONFIG, FIXED, Plan
from pipeline.search.recipe import command_of, recipe_of
from pipeline.search.storage import Turn, held, held_in
from pipeline.tracking import sidecar, tracking_uri
from pipeline.tracking.journal import Journal, Status
from pipeline.tracking.shipping.sync_worker import Errand
from pipeline.tracking.sync_state import JOURNAL

PATIENCE_SECONDS = 10.0


class Recording:
    """A journal in the search's directory, and the process that carries it and the trials' to MLflow.

    Where several processes work on a search, one of each folder records and one of all leads (notes the best so far,
    and has the last word); when it is gone, another one takes its turn.
    """

    def __init__(self, plan: Plan, folder: Path, study: Study) -> None:
        self.plan = plan
        self.folder = folder
        self.records = Turn(lambda: held_in(folder, "recording"))
        self.leads = Turn(lambda: held(study, folder, "lead"))
        self.journal: Journal | None = None
        self.noted: set[int] = set()
        self.carrier: sidecar.Sidecar | None = None

    def note(self, trials: list[FrozenTrial]) -> None:
        """The best so far, at each trial that has ended since."""
        ended = {trial.number for trial in trials if trial.state in studies.DONE}
        if not self.records.is_mine():
            return
        if self.journal is None:
            self.journal = self._begin()
            self.noted = ended  # by whoever recorded before
        if not self.leads.is_mine():
            return
        for number in sorted(ended - self.noted):
            self.noted.add(number)
            best = best_of([each for each in trials if each.number <= number], self.plan)
            if best is not None:
                self.journal.metrics(dict(zip(self.plan.objectives, best.values, strict=True)), step=number)

    def concludes(self) -> bool:
        """Whether the last word is this process's."""
        if self.journal is None and self.records.is_mine(at_once=True):
            self.journal = self._begin()
        if self.journal is not None and self.leads.is_mine(at_once=True):
            return True
        self.conclude(None, [], None, "FINISHED")
        return False

    def conclude(self, best: FrozenTrial | None, files: list[str], sentence: str | None, status: Status) -> None:
        """`files` of the search's directory; those in a folder go into the same in MLflow."""
        if self.journal is None:
            return
        for name in files:
            self.journal.artifact(name, folder=name.rpartition("/")[0] or None)
        if best is not None:
            self.journal.note(self._note(best, sentence, files))
        self.journal.end(status)

    def close(self) -> None:
        """Whatever is there has been sent, or is sent when the search is taken up again."""
        if self.journal is not None:
            self.journal.close()
        if self.carrier is not None:
            self.carrier.wait(PATIENCE_SECONDS, for_model=False)
        self.leads.give_back()
        self.records.give_back()

    def _begin(self) -> Journal:
        config, settings = self.plan.config, self.plan.settings
        git = environment.git_state(Path.cwd()) or {}
        tags = {"search": self.folder.name, "mlflow.source.git.commit": git.get("commit")}
        journal = Journal(self.folder / JOURNAL)
        journal.start(
            name=self.folder.name,
            experiment=config.tracking.get("experiment") or config.name,
            run_uid=self.folder.name,
            params={**self._searched(), "sampler": str(settings.sampler._target_).rpartition(".")[2]},
            tags={key: value for key, value in tags.items() if value is not None},
        )
        for name in (CONFIG, FIXED):
            journal.artifact(name)
        if config.tracking.uri is not None:
            errand = Errand(tracking_uri.absolute(config.tracking.uri), config.tracking.artifacts, None)
            self.carrier = sidecar.launch(self.folder, errand, module="pipeline.tracking.shipping.sync_trials")
        return journal

    def _searched(self) -> dict[str, Any]:
        return {f"search.{key}": text for key, text in self.plan.settings.space.items()}

    def _note(self, best: FrozenTrial, sentence: str | None, files: list[str]) -> str:
        """The carrier makes a page's address of each `artifact:`."""
        pages = [name for name in files if name.endswith((".html", ".png"))]
        links = " · ".join(f"[{_title(name)}](artifact:{name})" for name in sorted(pages, key=_is_picture))
        pictures = "\n\n".join(f"![{_title(name)}](artifact:{name})" for name in pages if _is_picture(name))
        scores = ", ".join(f"{name} {value:.4f}" for name, value in zip(self.plan.objectives, best.values, strict=True))
        command = shlex.join(command_of(self.plan, dict(best.params)))
        recipe = recipe_of(self.plan, dict(best.params))
        return (
            f"**{scores}** (trial {best.number}, on the validation set)\n\n"
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
