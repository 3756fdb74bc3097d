"""The recipes for small tables, beside scikit-learn on the same split."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import sklearn.linear_model as theirs
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.figure import Figure
from benchmarks.running import train
from pipeline.config import instantiate
from pipeline.config.compose import compose

SEEDS = (0, 1, 2)  # of the weights, and of the split: that is where the spread comes from
Pairs = list[tuple[float, float]]


def tables(folder: Path | None) -> Iterator[Figure]:
    """Five recipes, three splits each."""
    pairs, about = _both("linear_regression", theirs.LinearRegression(), "test/r2")
    off = max(abs(ours - other) for ours, other in pairs)
    yield _figure("R2, off by at most", "linear_regression", pairs, about, off, 0.01, "lower")
    for recipe in ("logistic_regression", "softmax_wine", "softmax_iris"):
        pairs, about = _both(recipe, theirs.LogisticRegression(max_iter=10_000), "test/accuracy")
        behind = max(100 * (other - ours) for ours, other in pairs)
        yield _figure("accuracy, points behind at most", recipe, pairs, about, behind, 0.5, "lower")
    pairs, about = _both("perceptron", theirs.Perceptron(), "test/accuracy")
    yield _figure("lowest accuracy", "perceptron", pairs, about, min(ours for ours, _ in pairs), 1, "higher")


def _both(recipe: str, estimator: Any, metric: str) -> tuple[Pairs, str]:
    """(ours, scikit-learn's) for each seed, and how long ours took."""
    pairs, seconds = [], []
    for seed in SEEDS:
        overrides = (f"experiment={recipe}", f"seed={seed}", f"data.source.split_seed={seed}", "tracking=none")
        run = train(*overrides)
        pairs.append((float(run.result["metrics"][metric]), _fitted(estimator, overrides)))
        seconds.append(run.seconds)
    return pairs, f"{min(seconds):.1f} to {max(seconds):.1f} s"


def _fitted(estimator: Any, overrides: tuple[str, ...]) -> float:
    """Accuracy or R2 on the test part, learned from the training part with its own scaling."""
    config = compose(overrides).config
    parts = instantiate.instantiate(config.data, config, seed=config.seed).splits
    model = make_pipeline(StandardScaler(), estimator)
    model.fit(parts.train.inputs.numpy(), parts.train.targets.numpy())
    return float(model.score(parts.test.inputs.numpy(), parts.test.targets.numpy()))


def _figure(
    what: str, recipe: str, pairs: Pairs, about: str, value: float, target: float, better: Literal["higher", "lower"]
) -> Figure:
    ours, other = (", ".join(f"{pair[side]:.4f}" for pair in pairs) for side in (0, 1))
    return Figure(f"experiment={recipe}: {what}", f"{ours} ({about})", f"{other} (scikit-learn)", value, target, better)
