"""The trials of a search as a table that its reader sorts by any column, without a script."""

from collections.abc import Sequence
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from pipeline.reports.html import Child, Html, element
from pipeline.search.results.plots.scales import shorten_keys
from pipeline.search.results.search_results import (
    ORDER,
    SearchResults,
    failure_reason,
    format_trial_scores,
    trial_seconds,
)
from pipeline.search.study import STATE_NAMES

ABSENT = "-"


def trial_table(results: SearchResults) -> Html:
    """Each heading is a choice of order. A row knows its place in every order, and the style sheet sets it there."""
    trials = results.ranked()
    names = shorten_keys(results.plan.space.dimensions)
    keys = list(names)
    heads = ["trial", "state", *(each.name for each in results.objectives), *names.values(), "seconds", "reason"]
    places = [_places(trials, ranks) for ranks in _ranks(results, trials, keys)]
    first = 2  # by the first objective
    choices = [
        element(
            "label",
            element("input", type="radio", name="order", id=f"by{column}", checked="" if column == first else None),
            name,
        )
        for column, name in enumerate(heads)
    ]
    rows = []
    for row, trial in enumerate(trials):
        cells = _cells(results, trial, keys)
        style = ";".join(f"--o{column}:{orders[row]}" for column, orders in enumerate(places))
        is_best = results.best is not None and trial.number == results.best.number
        of_state = "best" if is_best else None if trial.state == TrialState.COMPLETE else "quiet"
        rows.append(
            element(
                "tr",
                element("th", cells[0], scope="row"),
                *(element("td", cell) for cell in cells[1:]),
                style=style,
                class_=of_state,
            )
        )
    rules = "".join(
        f".trials:has(#by{column}:checked) tbody tr{{order:var(--o{column})}}" for column in range(len(heads))
    )
    body = element(
        "table",
        element("thead", element("tr", *(element("th", choice, scope="col") for choice in choices))),
        element("tbody", *rows),
        style=f"--columns:{len(heads)}",
    )
    return element("div", element("style", Html(rules)), body, class_="scroll trials")


def _cells(results: SearchResults, trial: FrozenTrial, keys: Sequence[str]) -> list[Child]:
    scores: list[Child] = list(format_trial_scores(results, trial))
    if trial.values is None and scores[0]:
        scores[0] = element("span", str(scores[0]), title="its newest score: it was not trained to its end")
    texts = results.plan.space.texts(trial.params)
    seconds = trial_seconds(trial)
    return [
        str(trial.number),
        STATE_NAMES[trial.state],
        *scores,
        *(wrap_cell_text(texts[key]) if key in texts else ABSENT for key in keys),
        "" if seconds is None else f"{seconds:.1f}",
        failure_reason(trial),
    ]


def wrap_cell_text(text: str) -> str:
    """Return a number with few digits; the exact one is in the trial's command."""
    try:
        return f"{float(text):.4g}" if len(text) > 7 else text
    except ValueError:
        return text


def _ranks(results: SearchResults, trials: Sequence[FrozenTrial], keys: Sequence[str]) -> list[list[Any]]:
    """By which the trials are put in order, for each column."""
    found: list[list[Any]] = [[each.number for each in trials], [ORDER[each.state] for each in trials]]
    for objective in results.objectives:
        sign = -1 if objective.is_maximized else 1
        values = [objective.value(each) for each in trials]
        found.append([(value is None, 0.0 if value is None else sign * value) for value in values])
    found += [[_as_number_or_text(each.params.get(key), key in each.params) for each in trials] for key in keys]
    found.append([-(trial_seconds(each) or 0.0) for each in trials])
    found.append([(not failure_reason(each), failure_reason(each)) for each in trials])
    return found


def _as_number_or_text(value: Any, is_there: bool) -> tuple[int, float, str]:
    if not is_there:
        return (2, 0.0, "")
    return (0, float(value), "") if isinstance(value, int | float) else (1, 0.0, str(value))


def _places(trials: Sequence[FrozenTrial], ranks: Sequence[Any]) -> list[int]:
    """Where each trial comes; equals stay in the order in which they are given."""
    order = sorted(range(len(trials)), key=ranks.__getitem__)
    places = [0] * len(trials)
    for place, row in enumerate(order):
        places[row] = place
    return places
