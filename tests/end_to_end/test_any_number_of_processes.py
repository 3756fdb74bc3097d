"""One run on one, two, three and four processes: the same samples, pixels and losses, and the same verdict."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.tracking.journal import history

# Batch norm and dropout are each process's own; all else is drawn for the global batch.
ALIKE = (
    "model=mlp",
    "model.batch_norm=false",
    "model.dropout=0",
    "callbacks=[default,augmentation]",
    "optimizer.learning_rate=1e-3",
    "data.batch_size=120",
    "trainer.max_steps=100",
    "trainer.log_every_n_steps=1",
    "trainer.accelerator=cpu",
    "tracking=none",
)
TEST_METRICS = ("accuracy", "auroc", "calibration_error", "f1_macro", "loss")


@pytest.mark.slow
def test_they_take_the_same_way(program: Any, tmp_path: Path) -> None:
    curves = {}
    for count in (1, 2, 3, 4):
        home = tmp_path / f"{count}"
        ended = program.run(home, "train", *ALIKE, f"trainer.devices={count}", OMP_NUM_THREADS="1")
        assert ended.code == 0, ended.err
        curves[count] = history(program.only_run(home) / "journal.jsonl")
    losses = [value for _, value in curves[1]["train/loss"]]
    assert len(losses) == 100
    for count in (2, 3, 4):
        assert [value for _, value in curves[count]["train/loss"]] == pytest.approx(losses, abs=1e-5)
        for name in TEST_METRICS:
            (_, value), (_, expected) = curves[count][f"test/{name}"][0], curves[1][f"test/{name}"][0]
            assert value == pytest.approx(expected, abs=1e-5)


@pytest.mark.slow
def test_weights_that_are_divided_take_the_same_way_too(program: Any, tmp_path: Path) -> None:
    """And either strategy goes on from the other's checkpoint."""
    settings = ("trainer.devices=2", "regularizer=l2", "trainer.gradient_clip_val=0.5", "checkpoint.every_n_steps=40")
    curves = {}
    for strategy, then in (("ddp", "fsdp"), ("fsdp", "ddp")):
        home = tmp_path / strategy
        words = ("train", *ALIKE, *settings, f"trainer.strategy={strategy}", "trainer.max_steps=60")
        ended = program.run(home, *words, OMP_NUM_THREADS="1")
        assert ended.code == 0, ended.err
        again = program.run(home, "resume", f"trainer.strategy={then}", "trainer.max_steps=100", OMP_NUM_THREADS="1")
        assert again.code == 0, again.err
        curves[strategy] = history(program.only_run(home) / "journal.jsonl")
    for name in ("train/loss", "val/loss", "test/loss", "test/auroc"):
        one, other = curves["ddp"][name], curves["fsdp"][name]
        assert [step for step, _ in one] == [step for step, _ in other]
        assert [value for _, value in one] == pytest.approx([value for _, value in other], abs=1e-5)
