"""How far a search is: a table that changes where there is a terminal, else a line for each trial."""

import time
from types import TracebackType

from optuna.trial import FrozenTrial, TrialState
from rich.console import Console
from rich.live import Live
from rich.table import Table

from pipeline.search import study as studies
from pipeline.search.plan import Plan

NEWEST = 8
STATES = {
    TrialState.COMPLETE: "finished",
    TrialState.PRUNED: "pruned",
    TrialState.RUNNING: "running",
    TrialState.FAIL: "failed",
    TrialState.WAITING: "waiting",
}


class Display:
    """To be entered; `show` is for the driver."""

    def __init__(self, plan: Plan, wanted: int, console: Console) -> None:
        self.plan = plan
        self.wanted = wanted
        self.console = console
        self.began = time.monotonic()
        self.told: set[int] | None = None
        self.done_before = 0
        self.live = Live(console=console, refresh_per_second=4, transient=True) if console.is_terminal else None

    def __enter__(self) -> "Display":
        if self.live is not None:
            self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live is not None:
            self.live.stop()

    def show(self, trials: list[FrozenTrial]) -> None:
        ended = {trial.number for trial in trials if trial.state.is_finished()}
        if self.told is None:  # what an earlier search had done
            self.told, self.done_before = ended, _done(trials)
        if self.live is not None:
            self.live.update(self._table(trials))
        else:
            for trial in trials:
                if trial.number in ended - self.told and not trial.user_attrs.get(studies.SURPLUS):
                    self.console.print(self._line(trial, trials), soft_wrap=True, highlight=False)
        self.told = self.told | ended

    def _line(self, trial: FrozenTrial, trials: list[FrozenTrial]) -> str:
        values = " ".join(self.plan.space.overrides(trial.params))
        return (
            f"[{_done(trials)}/{self.wanted}] trial {trial.number} {STATES[trial.state]:<8} "
            f"{self._score(trial)}  {values}{self._left(trials)}".replace("[", r"\[")
        )

    def _table(self, trials: list[FrozenTrial]) -> Table:
        counts = {state: sum(trial.state == state for trial in trials) for state in STATES}
        title = (
            f"{_done(trials)} of {self.wanted}: {counts[TrialState.RUNNING]} running, "
            f"{counts[TrialState.PRUNED]} pruned, {len(studies.failures(trials))} failed{self._left(trials)}"
        )
        table = Table("trial", "state", *self.plan.objectives, "values", title=title, title_justify="left")
        shown = [trial for trial in trials if trial.state != TrialState.WAITING][-NEWEST:]
        first = best_of(trials, self.plan)
        for trial in shown if first is None or first in shown else [first, *shown]:
            style = "bold" if first is not None and trial.number == first.number else None
            scores = [f"{value:.4f}" for value in trial.values or []] or [self._score(trial)]
            scores += [""] * (len(self.plan.objectives) - len(scores))
            values = " ".join(self.plan.space.overrides(trial.params))
            table.add_row(str(trial.number), STATES[trial.state], *scores, values.replace("[", r"\["), style=style)
        return table

    def _score(self, trial: FrozenTrial) -> str:
        if trial.values is not None:
            return ", ".join(
                f"{name} {value:.4f}" for name, value in zip(self.plan.objectives, trial.values, strict=True)
            )
        if trial.state == TrialState.FAIL or studies.REASON in trial.user_attrs:
            return str(trial.user_attrs.get(studies.REASON, "")).partition("\n")[0]
        newest = trial.intermediate_values[max(trial.intermediate_values)] if trial.intermediate_values else None
        return "" if newest is None else f"{next(iter(self.plan.objectives))} {newest:.4f}"

    def _left(self, trials: list[FrozenTrial]) -> str:
        done = _done(trials) - self.done_before
        left = self.wanted - _done(trials)
        if done < 2 or left <= 0:
            return ""
        return f", about {_duration((time.monotonic() - self.began) / done * left)} left"


def best_of(trials: list[FrozenTrial], plan: Plan) -> FrozenTrial | None:
    """By the first objective, of those that keep all constraints."""
    finished = [
        trial
        for trial in trials
        if trial.state == TrialState.COMPLETE and trial.values and max(trial.constraints.values(), default=0.0) <= 0
    ]
    sign = 1 if next(iter(plan.objectives.values())) == "maximize" else -1
    return max(finished, key=lambda trial: sign * trial.values[0], default=None)


def _done(trials: list[FrozenTrial]) -> int:
    return sum(trial.state in studies.DONE for trial in trials)


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min" if minutes else f"{seconds} s"
