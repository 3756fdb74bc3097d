"""Which values decide whether a trial is among the best."""

import math
import textwrap
import warnings
from dataclasses import dataclass
from typing import Any

import optuna
from matplotlib.figure import Figure
from optuna.trial import TrialState, create_trial

from pipeline.search.results.plots.look import BLUE, QUIET, new_figure, note
from pipeline.search.results.plots.scales import shorten_keys, wrap_label
from pipeline.search.results.search_results import Objective, SearchResults

LEAST = 10  # trials that were trained to their end or pruned
TOP = 5  # trials that count as the best, at least; fewer tell hardly anything (Optuna's own advice)
TOP_SHARE = 0.1
MOST_BARS = 20


@dataclass(frozen=True)
class Importances:
    """Importance of each key.

    shares  {key: its share of the whole}, the largest first; empty where none can be computed
    remark  from how many trials, or why none can be computed
    """

    shares: dict[str, float]
    remark: str


def importances(results: SearchResults, objective: Objective) -> Importances:
    """PED-ANOVA (Watanabe et al. 2023), which compares the best trials with all of them, key by key.

    So it takes keys that only some trials have, and constants; and a pruned trial counts, as one that is not among the
    best. fANOVA needs the same keys in all trials, and their final scores.
    """
    judged = [each for each in results.trials if each.state in (TrialState.COMPLETE, TrialState.PRUNED)]
    scored = {each.number: value for each in judged if (value := objective.value(each)) is not None}
    if len(judged) < LEAST or len(scored) < 3:
        return Importances({}, f"With {len(judged)} of the {LEAST} trials that it takes, it is too early to tell.")
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances  # and with it scikit-learn

    sign = -1.0 if objective.is_maximized else 1.0
    worst = max(sign * value for value in scored.values())
    costs = {each.number: sign * scored[each.number] if each.number in scored else worst for each in judged}
    top = min(max(math.ceil(TOP_SHARE * len(judged)), TOP), len(judged) // 2, len(scored) - 1)
    if sorted(costs.values())[top - 1] == worst:
        return Importances({}, "Too many trials are equally good to tell what made the difference.")
    study = optuna.create_study()  # minimizes, in memory
    for each in judged:
        study.add_trial(create_trial(params=each.params, distributions=each.distributions, value=costs[each.number]))
    evaluator = PedAnovaImportanceEvaluator(target_quantile=(top - 0.5) / len(judged))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that `normalize` is new, and that a key is in few of the trials
        found: dict[str, Any] = get_param_importances(study, evaluator=evaluator, normalize=False)
    total = sum(found.values())
    if not (math.isfinite(total) and total > 0):
        return Importances({}, "None of the values searched has made a difference.")
    shares = {key: value / total for key, value in sorted(found.items(), key=lambda item: -item[1])}
    return Importances(shares, f"What parts the best {top} of {len(judged)} trials from the others.")


def importance_plot(results: SearchResults) -> Figure:
    found = [(each, importances(results, each)) for each in results.objectives]
    names = shorten_keys(results.plan.space.dimensions)
    bars = max([min(len(each.shares), MOST_BARS) for _, each in found] or [0])
    figure = new_figure(max(4.5 * len(found), 9), max(1.1 + 0.36 * bars, 1.6))
    for panel, (objective, each) in zip(figure.subplots(1, len(found), squeeze=False)[0], found, strict=True):
        panel.set_title(objective.name if len(found) > 1 else "Importance")
        if not each.shares:
            note(panel, textwrap.fill(each.remark, 90 // len(found)))
            continue
        keys = list(each.shares)[:MOST_BARS]
        shares = [each.shares[key] for key in keys]
        panel.barh(range(len(keys)), shares, height=0.66, color=BLUE)
        for row, share in enumerate(shares):
            panel.text(share, row, f" {share:.0%}", va="center", size=8.5)
        panel.set_yticks(range(len(keys)), [wrap_label(names[key], 26, 2) for key in keys])
        panel.set(xlim=(0, max(shares) * 1.12), ylim=(len(keys) - 0.4, -0.6), xticks=[])
        panel.set_xlabel(each.remark, color=QUIET, size=8.5)
        panel.grid(visible=False)
        panel.spines["bottom"].set_visible(False)
    return figure
