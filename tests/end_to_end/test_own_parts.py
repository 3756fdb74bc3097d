"""What a user adds by one YAML each, without a fork: optimiser, scheduler, loss, metric, callback, logger."""

import csv
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.tracking.journal import metric_history
from pipeline.training import checkpoints

FILES = {
    "optimizer/rmsprop": "_target_: torch.optim.RMSprop\nlearning_rate: 1e-3\n",
    "scheduler/plateau": (
        "_target_: torch.optim.lr_scheduler.ReduceLROnPlateau\nmonitor: val/f2\nmode: max\n"
        "patience: 0\nthreshold: 0.5\n"
    ),
    "task/f2": (
        "defaults: [auto]\nloss: {_target_: torch.nn.CrossEntropyLoss, label_smoothing: 0.1}\n"
        "metrics:\n  f2: {_target_: torchmetrics.FBetaScore, beta: 2.0, average: macro}\n"
        "  mine: {_target_: mine.Errors}\n"
    ),
    "callbacks/timer": "timer: {_target_: pytorch_lightning.callbacks.Timer, duration: '00:01:00:00'}\n",
    "allow_packages": "allow_packages: [mine]\n",
}
OWN = """
import torch
from torchmetrics import Metric

class Errors(Metric):
    higher_is_better = False

    def __init__(self):
        super().__init__()
        self.add_state("wrong", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("all", torch.tensor(0.0), dist_reduce_fx="sum")

    def update(self, preds, target):
        self.wrong += (preds.argmax(dim=1) != target).sum()
        self.all += len(target)

    def compute(self):
        return self.wrong / self.all
"""
CHOSEN = ("optimizer=rmsprop", "scheduler=plateau", "task=f2", "callbacks=[default,timer]", "loggers=csv")
SMALL = ("data=digits", "model=mlp", "model.widths=[16]", "trainer.max_epochs=3", "tracking=none")
BY_F2 = ("checkpoint.monitor=val/f2", "checkpoint.mode=max")


def project(root: Path) -> Path:
    for name, text in FILES.items():
        path = root / "conf" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (root / "mine.py").write_text(OWN)
    return root


@pytest.fixture(scope="module")
def trained(program: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = project(tmp_path_factory.mktemp("parts") / "home")
    ended = program.run(root, "train", *SMALL, *CHOSEN, *BY_F2)
    assert ended.code == 0, ended.err
    return root


def test_a_run_is_trained_with_them_and_its_metrics_are_known_everywhere(program: Any, trained: Path) -> None:
    run = program.only_run(trained)
    curves = metric_history(run / "journal.jsonl")
    assert [1 - value for _, value in curves["val/mine"]] == pytest.approx([v for _, v in curves["val/accuracy"]])
    metrics = program.result(run)["metrics"]
    assert {"test/f2", "test/mine", "test/accuracy"} <= metrics.keys()
    rates = [value for _, value in curves["train/learning_rate"]]
    assert rates[0] == pytest.approx(1e-3) and rates[-1] < rates[0]
    shown = program.run(trained, "runs", "show", run.name)
    assert "test/f2" in shown.out and "val/mine" in shown.out
    assert "f2" in (run / "report.html").read_text()


def test_a_second_logger_gets_what_the_journal_gets(program: Any, trained: Path) -> None:
    run = program.only_run(trained)
    with (run / "loggers/csv/version_0/metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    for name, points in metric_history(run / "journal.jsonl").items():
        if not name.startswith("system/"):
            logged = [float(row[name]) for row in rows if row.get(name)]
            assert logged == pytest.approx([value for _, value in points]), name


def test_compare_knows_which_way_a_metric_of_ones_own_is_better(program: Any, trained: Path) -> None:
    assert program.run(trained, "train", *SMALL, *CHOSEN, *BY_F2, "seed=1", "trainer.max_epochs=1").code == 0
    one, other = sorted(program.runs_in(trained))
    compared = program.run(trained, "compare", f"runs={one.name},{other.name}")
    assert compared.code == 0, compared.err
    best = min(program.result(run)["metrics"]["test/mine"] for run in (one, other))
    (page,) = trained.glob("**/compar*.html")
    assert f'<span class="best">{best:.4f}</span>' in page.read_text()


@pytest.mark.parametrize(
    "words, told",
    [
        (("checkpoint.monitor=val/f2",), "which is better when it is higher; add checkpoint.mode=max"),
        (("checkpoint.monitor=val/mine", "checkpoint.mode=max"), "is better when it is lower; add checkpoint.mode=min"),
        (("scheduler.mode=min",), "which is better when it is higher; add scheduler.mode=max"),
        (("scheduler.monitor=val/f3",), "Scheduler monitors val/f3, which nothing produces; choose one of"),
    ],
)
def test_a_metric_that_is_watched_the_wrong_way_round_is_refused(
    program: Any, trained: Path, words: tuple[str, ...], told: str
) -> None:
    ended = program.run(trained, "train", *SMALL, *CHOSEN, *words)
    assert (ended.code, told in ended.err) == (2, True), ended.err


MORTAL = """
import os, signal, time
from pathlib import Path
import pytorch_lightning as pl

class DiesOnce(pl.Callback):
    def on_before_optimizer_step(self, trainer, *_):
        if trainer.global_step == 13 and Path("mortal").exists():
            Path("mortal").unlink()
            while not list(Path("runs").glob("*/checkpoints/step-00000012.ckpt")):
                time.sleep(0.01)
            os.killpg(0, signal.SIGKILL)
"""


@pytest.mark.slow
def test_a_run_with_all_of_them_is_resumed_exactly(program: Any, tmp_path: Path) -> None:
    roots = {"whole": project(tmp_path / "whole"), "parts": project(tmp_path / "parts")}
    for root in roots.values():
        (root / "mine.py").write_text(OWN + MORTAL)
    (roots["parts"] / "mortal").touch()
    words = (
        "train",
        *SMALL,
        *CHOSEN,
        *BY_F2,
        "+callbacks.dies={_target_: mine.DiesOnce}",
        "checkpoint.every_n_steps=3",
    )
    assert program.run(roots["whole"], *words).code == 0
    assert program.run(roots["parts"], *words).code != 0
    resumed = program.run(roots["parts"], "resume")
    assert resumed.code == 0, resumed.err
    whole, parts = (program.only_run(root) for root in roots.values())
    one, other = (checkpoints.load_checkpoint(run / "checkpoints/last.ckpt")["state_dict"] for run in (whole, parts))
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    plain = (
        {k: v for k, v in metric_history(r / "journal.jsonl").items() if k[:7] != "system/"} for r in (whole, parts)
    )
    assert next(plain) == next(plain)
    assert len(list((parts / "loggers/csv").glob("version_*"))) == 2  # what was written before stays
