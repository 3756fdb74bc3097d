"""The recipe for sentences, beside scikit-learn on the same split."""

import statistics
from collections.abc import Iterator
from pathlib import Path

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from benchmarks.data import sst2
from benchmarks.figure import Figure
from benchmarks.running import train
from pipeline.data.text.text_rows import TextSample, read_text_rows

SEEDS = (0, 1, 2)
STRENGTHS = (0.3, 1, 3, 10, 30)  # C, of which the validation part chooses
Sentences = tuple[list[str], list[str]]


def text(folder: Path | None) -> Iterator[Figure]:
    """experiment=sst2 against TF-IDF of words and pairs with logistic regression."""
    root = sst2(folder)
    runs = [train("experiment=sst2", f"data.root={root}", f"seed={seed}", "tracking=none") for seed in SEEDS]
    seconds = [run.seconds for run in runs]
    each = ", ".join(f"{run.accuracy:.2%}" for run in runs)
    ours = f"{each} ({min(seconds):.1f} to {max(seconds):.1f} s)"
    mean = 100 * statistics.mean(run.accuracy for run in runs)
    what = f"experiment=sst2: test accuracy, mean of {len(SEEDS)} seeds"
    yield Figure(what, ours, None, mean, 81, "higher", " %")
    strength, found = tf_idf(Path(root))
    other = f"{found:.2%} (scikit-learn's TF-IDF and LogisticRegression, C={strength:g})"
    yield Figure("experiment=sst2: points behind", f"{mean:.2f}%", other, 100 * found - mean, 1, "lower")


def tf_idf(root: Path) -> tuple[float, float]:
    """The strength that the validation part chose, and the accuracy on the test part."""
    (sentences, labels), validation, test = (_part(root / f"{part}.tsv") for part in ("train", "dev", "test"))
    features = TfidfVectorizer(ngram_range=(1, 2)).fit(sentences)

    def model(strength: float) -> LogisticRegression:
        return LogisticRegression(C=strength, solver="liblinear").fit(features.transform(sentences), labels)

    def accuracy(model: LogisticRegression, part: Sentences) -> float:
        return float(model.score(features.transform(part[0]), part[1]))

    chosen = max(STRENGTHS, key=lambda strength: accuracy(model(strength), validation))
    return chosen, accuracy(model(chosen), test)


def _part(path: Path) -> Sentences:
    rows = [row for row in read_text_rows(path, text=0, label=1, header=False) if isinstance(row, TextSample)]
    return [row.text for row in rows], [row.label for row in rows]
