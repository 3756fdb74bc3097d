import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
from lightning_fabric.plugins.environments import SLURMEnvironment

from pipeline.cli import main
from pipeline.cli_args import check_run
from pipeline.config.checks.check_config import check_config
from pipeline.config.compose import compose
from pipeline.errors import ConfigError
from pipeline.lifecycle.build import Components
from pipeline.lifecycle.trainer import build_trainer
from pipeline.runs.environment import (
    check_variables,
    describe_environment,
    ignored_variables,
    recorded_variables,
)
from pipeline.runs.run_directory import Run
from pipeline.system.process import SINGLE_PROCESS

BEFORE_TORCH = "import sys; from pipeline.cli import main; print(main(sys.argv[1:]), 'torch' in sys.modules)"


@pytest.mark.parametrize(
    "name, value, same",
    [
        ("PL_TRAINER_FAST_DEV_RUN", "1", "trainer.max_steps=1"),
        ("PL_TRAINER_FAST_DEV_RUN", "true", "trainer.max_steps=1"),
        ("PL_TRAINER_LIMIT_TRAIN_BATCHES", "0.1", "data.train_fraction=0.1"),
        ("PL_TRAINER_OVERFIT_BATCHES", "1", "data.train_fraction=0.01"),
        ("PL_TRAINER_MAX_EPOCHS", "3", "trainer.max_epochs=3"),
        ("PL_TRAINER_PRECISION", "bf16-mixed", "trainer.precision=bf16-mixed"),
        ("PL_TRAINER_DETERMINISTIC", "True", "trainer.deterministic=true"),
        ("PL_TRAINER_DETECT_ANOMALY", "True", "+trainer.detect_anomaly=true"),
    ],
)
def test_what_lightning_would_take_from_the_environment_is_refused_with_a_key_that_is_accepted(
    name: str, value: str, same: str
) -> None:
    with pytest.raises(ConfigError) as told:
        check_variables({name: value, "PATH": "/bin"})
    assert str(told.value).splitlines()[1:] == [
        f"  to do without it  unset {name}",
        f"  for one command   env -u {name} pipeline ...",
        f"  to ask for it     {same}",
    ]
    composed = compose([same])
    check_config(composed.config, composed.shipped)


def test_all_refused_variables_are_named_at_once_and_only_settings_of_a_run_get_a_key() -> None:
    with pytest.raises(ConfigError) as told:
        check_variables({"PL_TRAINER_LOGGER": "False", "PL_DEEPSPEED_CONFIG_PATH": "/ds.json"})
    assert "unset PL_DEEPSPEED_CONFIG_PATH PL_TRAINER_LOGGER" in str(told.value)
    assert "to ask for it" not in str(told.value)


@pytest.mark.parametrize("name", ["PL_TRAINER_FAST_DEV_RUN", "PL_GLOBAL_SEED", "PL_SEED_WORKERS", "OMP_NUM_THREADS"])
def test_empty_variables_and_those_without_effect_are_accepted(name: str) -> None:
    check_variables({name: "" if name.startswith("PL_TRAINER") else "7"})


@pytest.mark.parametrize("verb", ["train", "search seed=0,1", "resume"])
def test_every_verb_that_trains_refuses_variables_of_lightning_before_torch_and_leaves_nothing(
    verb: str, tmp_path: Path
) -> None:
    answer = subprocess.run(
        [sys.executable, "-c", BEFORE_TORCH, *shlex.split(verb)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PL_TRAINER_FAST_DEV_RUN": "1"},
        timeout=60,
    )
    assert answer.stdout.strip() == "2 False"
    assert "unset PL_TRAINER_FAST_DEV_RUN" in answer.stderr
    assert list(tmp_path.iterdir()) == []


def test_verbs_that_evaluate_a_run_refuse_variables_of_lightning(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PL_TRAINER_PRECISION", "bf16-mixed")
    with pytest.raises(ConfigError, match="unset PL_TRAINER_PRECISION"):
        check_run(Run(tmp_path))


def test_a_training_process_refuses_variables_of_lightning(tmp_path: Path) -> None:
    run = Run(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    run.config_path.write_text("name: x\n")
    answer = subprocess.run(
        [sys.executable, "-P", "-m", "pipeline.lifecycle.training_process", str(tmp_path)],
        capture_output=True,
        text=True,
        env={**os.environ, "PL_TRAINER_MAX_EPOCHS": "1"},
        timeout=60,
    )
    assert answer.returncode == 2
    assert "unset PL_TRAINER_MAX_EPOCHS" in answer.stdout + answer.stderr


@pytest.mark.parametrize(
    "name, typed, told",
    [
        (
            "MLFLOW_TRACKING_URI",
            "",
            'runs/mlflow.db is used; to use the variable, type tracking.uri="$',
        ),
        (
            "MLFLOW_EXPERIMENT_NAME",
            "",
            '=mnist5k is used; to use the variable, type tracking.experiment="$',
        ),
        ("MLFLOW_RUN_ID", "", "ignored"),
        ("MLFLOW_EXPERIMENT_ID", "", "ignored"),
        ("MLFLOW_TRACKING_URI", "tracking.uri=http://127.0.0.1:1", None),
        ("MLFLOW_EXPERIMENT_NAME", "tracking.experiment=x", None),
        ("MLFLOW_TRACKING_URI", "tracking=none", None),
        ("MLFLOW_RUN_ID", "tracking=none", None),
        ("MLFLOW_TRACKING_USERNAME", "", None),
        ("MLFLOW_TRACKING_PASSWORD", "", None),
        ("MLFLOW_TRACKING_TOKEN", "", None),
    ],
)
@pytest.mark.parametrize("verb", ["train", "search seed=0,1"])
def test_a_variable_of_mlflow_that_is_ignored_is_named_in_one_line_without_its_value(
    name: str, typed: str, told: str | None, verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(name, "http://ann:hunter2@host")
    assert main([*shlex.split(verb), "launch=slurm", "launch.dry_run=true", *shlex.split(typed)]) == 0
    said = capsys.readouterr().err
    if told is None:
        assert said == ""
    else:
        assert said.count("\n") == 1 and said.startswith(f"note: {name} is set")
        assert told in said and "hunter2" not in said


def test_an_empty_variable_of_mlflow_is_not_mentioned() -> None:
    assert not list(
        ignored_variables({"MLFLOW_TRACKING_URI": "", "MLFLOW_RUN_ID": ""}, compose([]).config.tracking, [])
    )


def test_one_process_of_a_slurm_job_is_alone_and_keeps_its_signals(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in {"NTASKS": "2", "JOB_ID": "7", "JOB_NAME": "x", "PROCID": "1", "LOCALID": "1"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    assembly = Components(pl.LightningModule(), pl.LightningDataModule(), None, None, None)
    trainer = build_trainer(
        compose(["trainer.accelerator=cpu"]).config,
        components=assembly,
        callbacks=[],
        loggers=False,
        folder=tmp_path,
        rank=SINGLE_PROCESS,
    )
    assert trainer.world_size == 1
    assert not isinstance(trainer._accelerator_connector.cluster_environment, SLURMEnvironment)


def test_variables_that_change_speed_or_the_last_digits_are_recorded_and_secrets_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept = {
        "OMP_NUM_THREADS": "3",
        "ATEN_CPU_CAPABILITY": "default",
        "NVIDIA_TF32_OVERRIDE": "0",
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
        "CUDA_VISIBLE_DEVICES": "1",
        "TORCHDYNAMO_DISABLE": "1",
        "PYTHONHASHSEED": "0",
    }
    passed_over = {"MLFLOW_TRACKING_PASSWORD": "x", "HF_TOKEN": "x", "AWS_SECRET_ACCESS_KEY": "x", "OMP_STACKSIZE": ""}
    assert recorded_variables({**passed_over, **kept}) == dict(sorted(kept.items()))
    for name, value in kept.items():
        monkeypatch.setenv(name, value)
    assert json.loads(json.dumps(describe_environment([])))["variables"].items() >= kept.items()
