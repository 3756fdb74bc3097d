"""One run on one, two, three and four processes: the same samples, pixels, masks and losses, and the same verdict."""

import random
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.tracking.journal import metric_history
from pipeline.training import checkpoints

STEPS = 100
SAVED = 75  # exit code
ALIKE = (
    f"trainer.max_steps={STEPS}",
    "trainer.max_epochs=100",
    "trainer.log_every_n_steps=1",
    "trainer.accelerator=cpu",
    "tracking=none",
)
PICTURES = ("callbacks=[default,augmentation,mixup]", "data.batch_size=120")
SENTENCES = ("data=text_table", "data.root=.", "callbacks=[default,token_dropout]", "data.batch_size=60")
# Every model with its own dropout and batch norm, and with EMA, which is among the default callbacks.
RUNS = {
    # In float64, because float32 rounds one value in millions to the other side of a ReLU's corner.
    "cnn": ("model=cnn", *PICTURES, "trainer.precision=64-true"),
    "mlp": ("model=mlp", *PICTURES, "trainer.precision=64-true"),
    "smooth mlp": ("model=mlp", *PICTURES, "model.activation=gelu"),
    "gru": ("model=gru", *SENTENCES),
    "lstm of two layers": ("model=lstm", "model.depth=2", *SENTENCES),
    "transformer": ("model=transformer", "optimizer.learning_rate=1e-3", *SENTENCES),
    "swa": ("model=mlp", "callbacks=[swa]", "callbacks.swa.start_share=0.2", "trainer.precision=64-true"),
    "micro-batches": ("model=mlp", *PICTURES, "trainer.accumulate_grad_batches=2", "trainer.precision=64-true"),
}
TEST_METRICS = ("accuracy", "auroc", "calibration_error", "f1_macro", "loss")
ONE_THREAD = {"OMP_NUM_THREADS": "1"}


def write_sentences(path: Path) -> None:
    """A word or two among others say what a sentence is."""
    drawn = random.Random(0)
    telling = {"good": ("fine", "great", "lovely"), "bad": ("dull", "poor", "weak")}
    rows = ["text,label"]
    for _ in range(1200):
        label = drawn.choice(("good", "bad"))
        words = [f"w{drawn.randrange(200)}" for _ in range(drawn.randint(3, 14))]
        words += [drawn.choice(telling[label]), drawn.choice(telling[drawn.choice((label, "good", "bad"))])]
        drawn.shuffle(words)
        rows.append(f"{' '.join(words)},{label}")
    path.write_text("\n".join(rows) + "\n")


def curves_of(program: Any, home: Path, *settings: str) -> dict[str, list[tuple[int, float]]]:
    home.mkdir(parents=True)
    write_sentences(home / "train.csv")
    ended = program.run(home, "train", *ALIKE, *settings, **ONE_THREAD)
    assert ended.code == 0, ended.err
    found: dict[str, list[tuple[int, float]]] = metric_history(program.only_run(home) / "journal.jsonl")
    return found


def check_alike(one: dict[str, list[tuple[int, float]]], other: dict[str, list[tuple[int, float]]]) -> None:
    names = ["train/loss", "val/loss", *(f"test/{name}" for name in TEST_METRICS)]
    for name in names:
        assert [step for step, _ in one[name]] == [step for step, _ in other[name]]
        assert [value for _, value in other[name]] == pytest.approx([value for _, value in one[name]], abs=1e-5), name


def test_two_processes_are_one_on_iris(program: Any, tmp_path: Path) -> None:
    settings = ("data=iris", "model=mlp", "callbacks=[default,mixup]", "trainer.max_steps=20")
    one, two = (curves_of(program, tmp_path / f"{count}", *settings, f"trainer.devices={count}") for count in (1, 2))
    check_alike(one, two)


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_they_take_the_same_way(program: Any, tmp_path: Path, name: str) -> None:
    counts = (1, 2, 3, 4) if name == "smooth mlp" else (1, 2, 4)
    curves = {
        count: curves_of(program, tmp_path / f"{count}", *RUNS[name], f"trainer.devices={count}") for count in counts
    }
    assert len(curves[1]["train/loss"]) == STEPS
    for count in counts[1:]:
        check_alike(curves[1], curves[count])


@pytest.mark.slow
def test_a_run_can_go_on_with_another_number_of_them(program: Any, watched: Any, tmp_path: Path) -> None:
    undisturbed, home = tmp_path / "undisturbed", tmp_path / "home"
    whole = curves_of(program, undisturbed, *RUNS["cnn"], "trainer.devices=2")
    home.mkdir()
    for words, step in (
        (("train", *ALIKE, *RUNS["cnn"], "trainer.devices=2"), 20),
        (("resume", "trainer.devices=1"), 50),
    ):
        process = watched(program.start(home, *words, **ONE_THREAD))
        process.reaches(step)
        process.send(signal.SIGTERM)
        assert process.end().code == SAVED
    ended = program.run(home, "resume", "trainer.devices=2", **ONE_THREAD)
    assert ended.code == 0, ended.err
    check_alike(whole, metric_history(program.only_run(home) / "journal.jsonl"))
    one, other = (
        checkpoints.load_checkpoint(program.only_run(each) / "checkpoints/last.ckpt")["state_dict"]
        for each in (undisturbed, home)
    )
    for key, value in one.items():
        torch.testing.assert_close(other[key], value, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_weights_that_are_divided_take_the_same_way_too(program: Any, tmp_path: Path) -> None:
    """And either strategy goes on from the other's checkpoint."""
    settings = ("trainer.devices=2", "regularizer=l2", "trainer.gradient_clip_val=0.5", "checkpoint.every_n_steps=40")
    curves = {}
    for strategy, then in (("ddp", "fsdp"), ("fsdp", "ddp")):
        home = tmp_path / strategy
        words = (
            *ALIKE,
            *RUNS["smooth mlp"],
            *settings,
            f"trainer.strategy={strategy}",
            "trainer.max_steps=60",
        )
        ended = program.run(home, "train", *words, **ONE_THREAD)
        assert ended.code == 0, ended.err
        again = program.run(home, "resume", f"trainer.strategy={then}", "trainer.max_steps=100", **ONE_THREAD)
        assert again.code == 0, again.err
        curves[strategy] = metric_history(program.only_run(home) / "journal.jsonl")
    for name in ("train/loss", "val/loss", "test/loss", "test/auroc"):
        one, other = curves["ddp"][name], curves["fsdp"][name]
        assert [step for step, _ in one] == [step for step, _ in other]
        assert [value for _, value in one] == pytest.approx([value for _, value in other], abs=1e-5)
