"""By which metric a run keeps its best weights and stops early, where a LightningModule of the user's own says what
there is."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import pytorch_lightning as pl
from rich.console import Console

from pipeline.lifecycle.build import Assembly
from pipeline.run_files import ASSEMBLED
from pipeline.runs.run_directory import Run
from pipeline.training.callbacks.checkpointing import Checkpointing
from pipeline.training.callbacks.monitoring import DEFAULT, Choice, Monitoring, by_default, watch
from pipeline.training.callbacks.progress import ProgressDisplay
from pipeline.training.learner import Learner


def monitoring(
    run: Run, assembly: Assembly, callbacks: Sequence[pl.Callback], console: Console, *, is_resumed: bool
) -> list[pl.Callback]:
    """What finds it out; nothing where that is known, of a Learner or of an earlier life of the run."""
    if isinstance(assembly.module, Learner):
        return []
    before = ASSEMBLED.record_or_warn(run.folder) if is_resumed else None
    if before is not None:  # the states of those that watch are found in the checkpoint by what they monitor
        _as_before(before, callbacks)
        return []

    def decided(choice: Choice | None, reason: str, trainer: pl.Trainer) -> None:
        if choice is None:
            console.print(
                f"monitors    nothing, so the newest weights are kept and nothing stops early: {reason}", soft_wrap=True
            )
        elif choice.metric != DEFAULT:
            console.print(f"monitors    {choice.metric}, where {choice.way} is better: {reason}", soft_wrap=True)
        _show(choice, callbacks)
        if trainer.is_global_zero:
            _keep(run, choice, callbacks)

    return [Monitoring(callbacks, decided)]


def _keep(run: Run, choice: Choice | None, callbacks: Sequence[pl.Callback]) -> None:
    assembled = ASSEMBLED.record_or_warn(run.folder) or {}
    found = {
        "monitor": next(each.monitored for each in callbacks if isinstance(each, Checkpointing)),
        "instead_of_default": None if choice is None else asdict(choice),
        "headline": assembled.get("headline") if choice is None else choice.metric,
    }
    run.write_json(ASSEMBLED.name, assembled | found)


def _as_before(assembled: dict[str, Any], callbacks: Sequence[pl.Callback]) -> None:
    if "instead_of_default" not in assembled:  # of an older version, which knew of no other
        return
    chosen = assembled["instead_of_default"]
    choice = None if chosen is None else Choice(**chosen)
    _show(choice, callbacks)
    for callback in by_default(callbacks):
        watch(callback, choice)


def _show(choice: Choice | None, callbacks: Sequence[pl.Callback]) -> None:
    for callback in callbacks:
        if isinstance(callback, ProgressDisplay) and choice is not None:
            callback.headline = choice.metric
