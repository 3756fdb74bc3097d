"""What `pipeline train` leaves behind, file by file, and what it says."""

import json
import os
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import yaml

from pipeline.config import compose
from pipeline.runs.run_directory import Run

METRICS = {"test/loss", "test/accuracy", "test/f1_macro", "test/auroc", "test/calibration_error"}


def test_the_folder_is_named_after_the_moment_the_run_and_chance(finished: Any) -> None:
    assert re.fullmatch(r"20\d{6}-\d{6}-cnn-mnist5k-[0-9a-f]{4}", finished.folder.name)


def test_latest_points_to_it_and_travels_with_the_folder(finished: Any) -> None:
    latest = finished.folder.parent / "latest"
    assert os.readlink(latest) == finished.folder.name


def test_it_holds_these_files_and_no_others(finished: Any) -> None:
    assert {path.name for path in finished.folder.iterdir() if not path.name.startswith("evaluate")} == {
        "config.yaml",
        "overrides.txt",
        "environment.json",
        "assembled.json",
        "job.json",
        "checkpoints",
        "journal.jsonl",
        "result.json",
        "predictions.npz",
        "figures",
        "report.html",
        ".lock",
        ".report.lock",
        "seal.txt",
        "run.log",
    }


def test_the_frozen_configuration_is_plain_and_reads_back_as_what_was_composed(finished: Any) -> None:
    text = (finished.folder / "config.yaml").read_text()
    composed = compose.compose(finished.arguments[1:])
    assert "${" not in text
    assert yaml.safe_load(text) == Run(finished.folder).config() == composed.config


def test_the_overrides_stand_there_as_they_were_typed(finished: Any) -> None:
    assert (finished.folder / "overrides.txt").read_text().splitlines() == list(finished.arguments[1:])


def test_the_environment_names_versions_code_and_hardware(finished: Any) -> None:
    environment = json.loads((finished.folder / "environment.json").read_text())
    assert environment["command"] == ["pipeline", *finished.arguments]
    assert environment["choices"]["data"] == "mnist5k"
    assert {"pipeline", "torch", "pytorch-lightning", "hydra-core", "mlflow"} <= environment["packages"].keys()
    assert environment["python"] and environment["processor"] and environment["cores"] == os.cpu_count()
    assert environment["git"] is None  # the folder of the tests is no repository


def test_the_result_holds_the_figures_under_their_mlflow_names(finished: Any) -> None:
    result = finished.result
    assert list(result) == ["status", "metrics", "best_checkpoint", "mlflow_run_id", "seconds", "command"]
    assert result["status"] == "FINISHED"
    assert result["metrics"].keys() == METRICS
    assert result["metrics"]["test/accuracy"] > 0.8
    assert result["mlflow_run_id"] is None  # tracking=none
    assert 0 < result["seconds"] < finished.ended.seconds


def test_its_command_can_be_typed_again(finished: Any) -> None:
    assert finished.result["command"] == (
        "pipeline train 'model.widths=[4,8]' data.train_fraction=0.37 trainer.max_epochs=3 "
        "trainer.log_every_n_steps=4 checkpoint.every_n_steps=3 tracking=none"
    )


def test_best_and_last_are_links_to_checkpoints_that_are_there(finished: Any) -> None:
    folder = finished.folder / "checkpoints"
    assert os.readlink(folder / "last.ckpt") == "step-00000030.ckpt"
    best = os.readlink(folder / "best.ckpt")
    assert finished.result["best_checkpoint"] == f"checkpoints/{best}"
    assert (folder / best).stat().st_size > 0 and (folder / f"{best}.sha256").exists()


def test_the_figures_are_pictures(finished: Any) -> None:
    pictures = {path.stem: path.read_bytes() for path in (finished.folder / "figures").iterdir()}
    assert pictures.keys() == {
        "learning_curves",
        "confusion_matrix",
        "reliability",
        "worst_mistakes",
        "training_inputs",
    }
    assert {ElementTree.fromstring(content).tag for content in pictures.values()} == {"{http://www.w3.org/2000/svg}svg"}
    assert pictures["worst_mistakes"].count(b"data:image/png;base64") > 0 < pictures["training_inputs"].count(b"<image")


def test_the_journal_has_each_value_once_and_ends_well(finished: Any) -> None:
    lines = (finished.folder / "journal.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    values = [(name, each["step"]) for each in records if each["kind"] == "metrics" for name in each["values"]]
    assert len(values) == len(set(values))
    assert [step for name, step in values if name == "val/accuracy"] == [10, 20, 30]
    # Every fourth step, and where an epoch ends.
    assert [step for name, step in values if name == "train/loss"] == [4, 8, 10, 12, 16, 20, 24, 28, 30]
    assert records[0]["kind"] == "start" and records[-1] == records[-1] | {"kind": "end", "status": "FINISHED"}


def test_the_log_keeps_what_the_screen_is_spared(finished: Any) -> None:
    assert "pytorch_lightning" in (finished.folder / "run.log").read_text()
    assert finished.ended.err == ""
    assert "Lightning" not in finished.ended.out and "Warning" not in finished.ended.out


def test_it_says_what_it_will_do_what_came_out_and_what_to_type_next(finished: Any) -> None:
    said = finished.ended.out
    name = finished.folder.name
    assert "mnist5k: 1,295 train, 500 validation, 1,000 test; 1x28x28, 10 classes" in said
    assert re.search(r"CNN, [\d,]+ parameters", said)
    assert "3 epochs, 30 steps, 1 x " in said
    assert f"writes to   runs/{name}\n" in said
    assert f"pipeline evaluate run={name}\n" in said
    for metric, value in finished.result["metrics"].items():
        assert re.search(rf"{metric} +\S +{value:.4f}", said)


def test_without_a_terminal_it_prints_plain_lines(finished: Any) -> None:
    epochs = [line for line in finished.ended.out.splitlines() if line.startswith("epoch ")]
    pattern = r"epoch \d/3  step \d0  loss \d\.\d{4}  accuracy 0\.\d{4}  [\d,]+ samples/s"
    assert len(epochs) == 3 and all(re.fullmatch(pattern, line) for line in epochs)
    assert "\x1b" not in finished.ended.out


def test_nothing_but_the_folder_of_runs_is_written(finished: Any) -> None:
    root: Path = finished.folder.parent.parent
    assert [path.name for path in root.iterdir()] == ["runs"]
    assert {path.name for path in (root / "runs").iterdir()} == {"latest", finished.folder.name}
