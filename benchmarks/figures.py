"""The figures, each by the name under which `python -m benchmarks NAME` measures it."""

import json
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from benchmarks import data, diagnose, images, search, tables, text, tracking
from benchmarks.data import mnist
from benchmarks.engine import checkpoint, overhead, ranks, restart
from benchmarks.figure import Figure
from benchmarks.running import baseline, in_pairs, median_ratio, medians, seconds_of, train

SEEDS = (0, 1, 2)
PAIRS = 7
REPEATS = 3
NETS = {  # as baselines/nets.py writes them out
    "cnn": ("model=cnn",),
    "dense": ("model=mlp", "model.widths=[64,128,64]", "model.dropout=0"),
}
CLASSICS = {"softmax_mnist": 92.0, "mlp_mnist": 98.5, "lenet5_mnist": 99.0}  # accuracy to reach
SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
HELD_OUT = 80.0  # %, below what was seen: no target, but a floor
EXAMPLE_EPOCHS = 4  # after which the PyTorch example reaches 99.1 %
EXAMPLE_STEPS = 150


def embedded(folder: Path | None) -> Iterator[Figure]:
    """The default run, on the embedded 5,000 digits."""
    run = train("tracking=none")
    yield Figure("default run: test accuracy", f"{run.accuracy:.2%}", None, run.accuracy * 100, 98.0, "higher", " %")
    yield Figure("default run: training", f"{run.seconds:.1f} s", None, run.seconds, 60, "lower", " s")


def full(folder: Path | None) -> Iterator[Figure]:
    """experiment=mnist against the time that PyTorch's own example takes to 99 %."""
    root = mnist(folder)
    runs = []

    def ours() -> float:
        runs.append(train("experiment=mnist", f"data.root={root}", "tracking=none", f"seed={SEEDS[len(runs)]}"))
        return runs[-1].seconds

    def theirs() -> float:
        epoch = baseline("torch_example", root, str(EXAMPLE_STEPS))["seconds_per_epoch"]
        return float(EXAMPLE_EPOCHS * epoch)

    pairs = in_pairs(ours, theirs, len(SEEDS))
    yield accuracy_of("experiment=mnist", [run.accuracy for run in runs], 99.0)
    seconds, example = medians(pairs)
    what = f"{example:.0f} s (PyTorch's example, {EXAMPLE_EPOCHS} epochs, from {EXAMPLE_STEPS} timed steps)"
    yield Figure("experiment=mnist: times faster", f"{seconds:.1f} s", what, 1 / median_ratio(pairs), 25, "higher", "x")


def best(folder: Path | None) -> Iterator[Figure]:
    """experiment=mnist_best (minutes a seed)."""
    root = mnist(folder)
    runs = [train("experiment=mnist_best", f"data.root={root}", "tracking=none", f"seed={seed}") for seed in SEEDS]
    yield accuracy_of("experiment=mnist_best", [run.accuracy for run in runs], 99.6)
    longest = max(run.seconds for run in runs) / 60
    yield Figure("experiment=mnist_best: training", f"{longest:.1f} min", None, longest, 20, "lower", " min")


def classics(folder: Path | None) -> Iterator[Figure]:
    """The models of earlier decades on the full MNIST (minutes in all)."""
    root = mnist(folder)
    for recipe, target in CLASSICS.items():
        runs = [train(f"experiment={recipe}", f"data.root={root}", "tracking=none", f"seed={seed}") for seed in SEEDS]
        yield accuracy_of(f"experiment={recipe}", [run.accuracy for run in runs], target)


def spoken_digits(folder: Path | None) -> Iterator[Figure]:
    """experiment=spoken_digits on the official split, and with each speaker in turn held out."""
    settings = ("experiment=spoken_digits", f"data.root={data.spoken_digits(folder)}", "tracking=none")
    runs = [train(*settings, f"seed={seed}") for seed in SEEDS]
    yield accuracy_of("experiment=spoken_digits", [run.accuracy for run in runs], 97.0)
    strange = [train(*settings, f"data.source.held_out_speaker={speaker}").accuracy for speaker in SPEAKERS]
    each = ", ".join(f"{value:.1%}" for value in strange)
    mean = 100 * statistics.mean(strange)
    yield Figure("experiment=spoken_digits: speaker held out, mean of 6", each, None, mean, HELD_OUT, "higher", " %")


def accuracy_of(what: str, found: list[float], target: float) -> Figure:
    each = ", ".join(f"{value:.2%}" for value in found)
    mean = 100 * statistics.mean(found)
    return Figure(f"{what}: test accuracy, mean of {len(found)} seeds", each, None, mean, target, "higher", " %")


def throughput(folder: Path | None) -> Iterator[Figure]:
    """Against a hand-written loop (the same net, batch and optimiser), interval by interval in one process."""
    root = mnist(folder)
    for name, epochs, target in (("cnn", 3, 0.90), ("dense", 7, 0.85)):
        pairs = [pair for _ in range(REPEATS) for pair in _beside(name, root, epochs)]
        ours, by_hand = (f"{1000 * seconds:.2f} ms/step" for seconds in medians(pairs))
        ratio = median_ratio([(other, mine) for mine, other in pairs])
        yield Figure(f"{name} net: share of a hand-written loop's speed", ours, by_hand, ratio, target, "higher")


def _beside(name: str, root: str, epochs: int) -> list[tuple[float, float]]:
    """Seconds a step, ours and by hand."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "pairs.json")
        beside = {"_target_": "benchmarks.beside.ByHandBeside", "net": name, "folder": root, "report": report}
        added = [f"+callbacks.beside.{key}={value}" for key, value in beside.items()]
        train(*NETS[name], *_mnist(root, epochs), "allow_packages=[benchmarks]", *added)
        return [(mine, other) for mine, other in json.loads(report.read_text())]


def stock(folder: Path | None) -> Iterator[Figure]:
    """Against Lightning with a DataLoader over samples and MLFlowLogger, dense net."""
    root = mnist(folder)

    def our_speed() -> float:
        run = train(*NETS["dense"], *_mnist(root, 6))
        return statistics.median(run.values("system/samples_per_second")[1:])

    def stock_speed() -> float:
        return float(baseline("stock_lightning", root, "150")["samples_per_second"])

    pairs = in_pairs(our_speed, stock_speed, 3)
    mine, other = (f"{speed:,.0f}/s" for speed in medians(pairs))
    yield Figure("dense net: times stock Lightning's speed", mine, other, median_ratio(pairs), 8, "higher", "x")


def _mnist(root: str, epochs: int) -> tuple[str, ...]:
    """Metrics, journal and progress bar are on; the hand-written loop averages no weights."""
    return "data=mnist", f"data.root={root}", f"trainer.max_epochs={epochs}", "~callbacks.ema", "tracking=none"


def start(folder: Path | None) -> Iterator[Figure]:
    """From the command to the first optimiser step, against the imports that no run can do without."""

    def first_step() -> float:
        return train("trainer.max_steps=1", "trainer.log_every_n_steps=1", "tracking=none").first_step_seconds

    imports = partial(seconds_of, [sys.executable, "-c", "import torch, pytorch_lightning"])
    pairs = in_pairs(first_step, imports, PAIRS)
    mine, other = (f"{seconds:.1f} s" for seconds in medians(pairs))
    yield Figure("first step: times the bare imports", mine, other, median_ratio(pairs), 1.4, "lower", "x")


def refusal(folder: Path | None) -> Iterator[Figure]:
    """A mistake on the command line."""
    commands = (["model=cnnn"], ["trainer.max_epoch=3"], ["optimizer.learning_rate=abc"])
    python = [sys.executable, "-m", "pipeline", "train"]
    worst = max(
        statistics.median(seconds_of([*python, *words], expected_code=2) for _ in range(5)) for words in commands
    )
    yield Figure("a refused command", f"{worst:.2f} s", None, worst, 1.0, "lower", " s")


def memory(folder: Path | None) -> Iterator[Figure]:
    """The training process on the full MNIST."""
    run = train("experiment=mnist", f"data.root={mnist(folder)}", "tracking=none")
    yield Figure(
        "full MNIST: peak memory", f"{run.peak_megabytes:.0f} MB", None, run.peak_megabytes, 1000, "lower", " MB"
    )


FIGURES: dict[str, Callable[[Path | None], Iterator[Figure]]] = {
    each.__name__: each
    for each in (
        *(embedded, full, classics, throughput, stock, start, refusal, memory, best, spoken_digits),
        *(ranks, overhead, checkpoint, restart),
        *(tracking.tracking, tracking.tracked_steps, tracking.ui),
        search.search,
        search.pruning,
        search.crowd,
        tables.tables,
        images.images,
        text.text,
        diagnose.diagnose,
    )
}
LONG = ("best", "pruning", "crowd", "diagnose")
