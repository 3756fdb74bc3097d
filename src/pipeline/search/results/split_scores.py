"""Scores of a search's trials on the splits that `search.judged` names, over their seeds."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from optuna.trial import TrialState

from pipeline.search import study as studies
from pipeline.search.results.search_results import SearchResults
from pipeline.search.space import Value

SEED = "seed"
FRACTION = "data.train_fraction"
LEARNED_FROM = "train"


@dataclass(frozen=True)
class ConfigurationScores:
    """Scores of the finished trials that differ in nothing but their seed.

    values   of the keys that are searched, without the seed
    samples  that each was trained on
    scores   {part: one value of the metric a trial}, in the order of the trials in all parts
    """

    values: dict[str, Value]
    samples: int
    scores: dict[str, list[float]]


def searched_metric(results: SearchResults) -> str:
    """Return the first objective without its split, such as `accuracy`."""
    return results.objectives[0].name.rpartition("/")[2]


def scores_by_configuration(results: SearchResults) -> list[ConfigurationScores]:
    """Return the scores of each configuration, in the order of their first trials."""
    metric = searched_metric(results)
    found: dict[tuple[object, ...], ConfigurationScores] = {}
    for trial in sorted(results.trials, key=lambda each: each.number):
        told = trial.user_attrs.get(studies.SPLIT_SCORES)
        if trial.state != TrialState.COMPLETE or told is None:
            continue
        parts = {part: told[part][metric] for part in results.plan.scored_splits if metric in told.get(part, {})}
        values = {key: value for key, value in trial.params.items() if key != SEED}
        key = (*sorted(values.items()), told["samples"])
        one = found.setdefault(key, ConfigurationScores(values, told["samples"], {part: [] for part in parts}))
        for part, score in parts.items():
            one.scores[part].append(score)
    return list(found.values())


@dataclass(frozen=True)
class GeneralizationGap:
    """How much worse the network is on another split than on the training split, for each trial."""

    label: str
    train: list[float]
    other: list[float]
    higher_is_better: bool

    @property
    def widths(self) -> list[float]:
        sign = 1 if self.higher_is_better else -1
        return [sign * (one - other) for one, other in zip(self.train, self.other, strict=True)]


@dataclass(frozen=True)
class GeneralizationGaps:
    """The gaps of all configurations, which differ in `key`; they are compared with `rows[0]`, the default."""

    key: str
    metric: str
    part: str
    rows: list[GeneralizationGap]

    @property
    def head(self) -> list[str]:
        scores = [f"training {self.metric}", f"{self.part} {self.metric}"]
        return [self.key, *scores, "gap", "change of the gap", f"change of {self.part}"]

    def cells(self, row: GeneralizationGap) -> list[str]:
        first = self.rows[0]
        changes = [("", "")] if row is first else [(_change(row.widths, first.widths), _change(row.other, first.other))]
        return [row.label, *(_summary(values) for values in (row.train, row.other, row.widths)), *changes[0]]

    @property
    def sentence(self) -> str:
        seeds = max(len(row.other) for row in self.rows)
        over = f"Mean ± spread (standard deviation) over {seeds} seeds. " if seeds > 1 else ""
        return (
            f"{over}Each part is judged as the test part is: without augmentation or dropout, by the weights that "
            f"`train` would keep. The changes are from {self.rows[0].label}. A gap can also shrink because the network "
            f"learns less: a remedy is one that moves {self.part}."
        )

    def markdown(self) -> str:
        lines = [self.head, ["---", *("---:" for _ in self.head[1:])], *(self.cells(row) for row in self.rows)]
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        return f"{table}\n\n{self.sentence}\n"


def generalization_gaps(results: SearchResults) -> GeneralizationGaps | None:
    """Return the gaps from training to the test split, or to validation; None where no trial has scores on both."""
    others = [part for part in ("test", "validation") if part in results.plan.scored_splits]
    if LEARNED_FROM not in results.plan.scored_splits or not others:
        return None
    metric, part = searched_metric(results), others[0]
    found = [each for each in scores_by_configuration(results) if {LEARNED_FROM, part} <= each.scores.keys()]
    higher = results.objectives[0].is_maximized
    rows = [
        GeneralizationGap(configuration_label(each), each.scores[LEARNED_FROM], each.scores[part], higher)
        for each in found
    ]
    keys = [key for key in results.plan.space.dimensions if key != SEED]
    return GeneralizationGaps(keys[0] if len(keys) == 1 else "configuration", metric, part, rows) if rows else None


def configuration_label(judgement: ConfigurationScores) -> str:
    """Return `dropout` where one key is searched, `model=mlp data.train_fraction=0.5` where several are."""
    values = judgement.values
    if not values:
        return "all trials"
    return str(*values.values()) if len(values) == 1 else " ".join(f"{key}={value}" for key, value in values.items())


def _summary(values: Sequence[float]) -> str:
    spread = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.4f}{spread}"


def _change(values: Sequence[float], first: Sequence[float]) -> str:
    return f"{statistics.mean(values) - statistics.mean(first):+.4f}"
