"""The progress of a search on the console: a live table in a terminal, else a line for each trial that ends."""

import time
from types import TracebackType

from optuna.trial import FrozenTrial, TrialState
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from pipeline.search.plan import Plan
from pipeline.search.study import DONE_STATES, EXCESS, REASON, STATE_NAMES, best_trial, failed_trials

MAX_ROWS = 8


class SearchDisplay:
    """Shows progress while it is entered; the supervisor calls `show`."""

    def __init__(self, plan: Plan, total: int, console: Console) -> None:
        self.plan = plan
        self.total = total
        self.console = console
        self.started_at = time.monotonic()
        self.shown: set[int] | None = None  # numbers of the trials that had ended at the last call
        self.done_before = 0
        self.live = Live(console=console, refresh_per_second=4, transient=True) if console.is_terminal else None

    def __enter__(self) -> "SearchDisplay":
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
        if self.shown is None:  # the work of earlier sessions
            self.shown, self.done_before = ended, _count_done(trials)
        if self.live is not None:
            self.live.update(self._table(trials))
        else:
            for trial in trials:
                if trial.number in ended - self.shown and not trial.user_attrs.get(EXCESS):
                    self.console.print(self._line(trial, trials), soft_wrap=True, highlight=False)
        self.shown = self.shown | ended

    def _line(self, trial: FrozenTrial, trials: list[FrozenTrial]) -> str:
        return escape(
            f"[{_count_done(trials)}/{self.total}] trial {trial.number} {STATE_NAMES[trial.state]:<8} "
            f"{self._score(trial)}  {self._values(trial)}{self._time_left(trials)}"
        )

    def _table(self, trials: list[FrozenTrial]) -> Table:
        counts = {state: sum(trial.state == state for trial in trials) for state in STATE_NAMES}
        title = (
            f"{_count_done(trials)} of {self.total}: {counts[TrialState.RUNNING]} running, "
            f"{counts[TrialState.PRUNED]} pruned, {len(failed_trials(trials))} failed{self._time_left(trials)}"
        )
        table = Table("trial", "state", *self.plan.objectives, "values", title=title, title_justify="left")
        rows = [trial for trial in trials if trial.state != TrialState.WAITING][-MAX_ROWS:]
        best = best_trial(trials, self.plan)
        for trial in rows if best is None or best in rows else [best, *rows]:
            style = "bold" if best is not None and trial.number == best.number else None
            scores = [f"{value:.4f}" for value in trial.values or []] or [self._score(trial)]
            scores += [""] * (len(self.plan.objectives) - len(scores))
            cells = (str(trial.number), STATE_NAMES[trial.state], *scores, escape(self._values(trial)))
            table.add_row(*cells, style=style)
        return table

    def _values(self, trial: FrozenTrial) -> str:
        return " ".join(self.plan.space.overrides(trial.params))

    def _score(self, trial: FrozenTrial) -> str:
        """Return the scores of a trial, else the reason why it has none, else its newest score."""
        if trial.values is not None:
            return self.plan.format_scores(trial.values)
        if trial.state == TrialState.FAIL or REASON in trial.user_attrs:
            return str(trial.user_attrs.get(REASON, "")).partition("\n")[0]
        if not trial.intermediate_values:
            return ""
        return f"{next(iter(self.plan.objectives))} {trial.intermediate_values[max(trial.intermediate_values)]:.4f}"

    def _time_left(self, trials: list[FrozenTrial]) -> str:
        done = _count_done(trials) - self.done_before
        left = self.total - _count_done(trials)
        if done < 2 or left <= 0:
            return ""
        return f", about {_format_seconds((time.monotonic() - self.started_at) / done * left)} left"


def _count_done(trials: list[FrozenTrial]) -> int:
    return sum(trial.state in DONE_STATES for trial in trials)


def _format_seconds(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min" if minutes else f"{seconds} s"
