"""What is monitored of LightningModules as Lightning's guides write them, and when that is known."""

import signal
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping
from tests.end_to_end.tutorials import data as guides
from tests.end_to_end.tutorials import modules

from pipeline.errors import ConfigError
from pipeline.training.callbacks.checkpointing import Checkpointing
from pipeline.training.callbacks.monitored_metric import MonitorChoice, MonitorDiscovery, set_monitor
from pipeline.training.checkpoints import VerifiedCheckpointIO
from pipeline.training.interruption import Interruption

VAL_LOSS = MonitorChoice("val_loss", "min")


class Fit:
    """A training as `pipeline train` sets it up, without its processes."""

    def __init__(
        self, folder: Path, module: pl.LightningModule, data: pl.LightningDataModule, **monitored: str
    ) -> None:
        torch.manual_seed(0)
        self.module, self.data = module, data
        chosen = {"monitor": "val/loss", "mode": "min"} | monitored
        self.checkpointing = Checkpointing(
            folder=folder / "checkpoints",
            interruption=Interruption(),
            every_n_steps=None,
            every_n_minutes=None,
            keep=2,
            **chosen,
        )
        self.stopping = EarlyStopping("val/loss", patience=5)
        self.decided: list[tuple[MonitorChoice | None, str, int]] = []
        self.folder = folder

    def run(self, *, epochs: int = 2, start_from: Path | None = None) -> pl.Trainer:
        watchers = [self.stopping, self.checkpointing]
        monitoring = MonitorDiscovery(watchers, lambda *told: self.decided.append((*told[:2], told[2].global_step)))
        trainer = pl.Trainer(
            max_epochs=epochs,
            accelerator="cpu",
            callbacks=[*([monitoring] if start_from is None else []), *watchers],
            num_sanity_val_steps=1,
            logger=False,
            plugins=[VerifiedCheckpointIO()],
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=self.folder,
        )
        trainer.fit(self.module, datamodule=self.data, ckpt_path=start_from, weights_only=True)
        return trainer


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    "module, data, choice, reason",
    [
        ("Classifier", "Points", VAL_LOSS, "Classifier logs no val/loss"),
        ("SharedStep", "Points", MonitorChoice("val/cross_entropy_loss", "min"), "logs no val/loss"),
        ("AtTheEpochsEnd", "Points", MonitorChoice("avg_val_loss", "min"), "logs no val/loss"),
        ("WithObjects", "Points", VAL_LOSS, "logs no val/loss"),
        ("TwoLoaders", "TwoValidations", MonitorChoice("val_loss/dataloader_idx_0", "min"), "logs no val/loss"),
        ("Classifier", "Stream", VAL_LOSS, "logs no val/loss"),
        ("EpochLossOnly", "TrainingOnly", MonitorChoice("train_loss", "min", in_training=True), "logs no val/loss"),
        ("TrainingLossOnly", "Points", None, "logs train_loss for single batches only"),
        ("Adversaries", "TrainingOnly", None, "logs g_loss, d_loss, which do not measure progress"),
        ("Silent", "Points", None, "Silent logs nothing"),
    ],
)
def test_the_monitored_metric_is_known_before_the_first_epoch_is_over(
    tmp_path: Path, module: str, data: str, choice: MonitorChoice | None, reason: str
) -> None:
    fit = Fit(tmp_path, getattr(modules, module)(), getattr(guides, data)())
    fit.run()
    ((found, why, step),) = fit.decided
    assert found == choice and reason in why
    assert step == 0 if choice is not None and not choice.in_training else step <= 2
    assert (tmp_path / "checkpoints/best.ckpt").exists() is (choice is not None)
    assert (tmp_path / "checkpoints/last.ckpt").exists()
    assert fit.checkpointing.monitor == (None if choice is None else choice.metric)
    if choice is not None:
        assert (fit.stopping.monitor, fit.stopping.mode) == (choice.metric, choice.mode)
        assert float(fit.stopping.best_score) == pytest.approx(fit.checkpointing.best_score)


def test_a_metric_that_is_better_when_higher_can_be_monitored(tmp_path: Path) -> None:
    fit = Fit(tmp_path, modules.AccuracyAlone(), guides.Points())
    fit.run()
    assert fit.decided[0][0] == MonitorChoice("val_acc", "max")
    assert fit.checkpointing.best_score is not None and fit.checkpointing.best_score > 0.5
    assert fit.stopping.mode == "max" and float(fit.stopping.best_score) > 0.5


def test_a_monitor_chosen_by_hand_stays_and_the_default_beside_it_is_replaced(tmp_path: Path) -> None:
    fit = Fit(tmp_path, modules.Classifier(), guides.Points(), monitor="val_acc", mode="max")
    fit.run()
    assert (fit.checkpointing.monitor, fit.stopping.monitor) == ("val_acc", "val_loss")


@pytest.mark.parametrize(
    "module, data, monitored, sentence",
    [
        (
            "Classifier",
            "Points",
            "val_acu",
            "checkpoint.monitor=val_acu: Classifier logs no such metric; choose one of val_",
        ),
        (
            "Classifier",
            "TrainingOnly",
            "train_loss",
            "ReduceLROnPlateau.monitor=val_loss: .*, and there is no validation",
        ),
        ("Silent", "Points", "val_acc", "it logs nothing"),
    ],
)
def test_a_metric_that_is_never_logged_is_refused_after_the_first_step_at_the_latest(
    tmp_path: Path, module: str, data: str, monitored: str, sentence: str
) -> None:
    fit = Fit(tmp_path, getattr(modules, module)(), getattr(guides, data)(), monitor=monitored)
    with pytest.raises(ConfigError, match=sentence):
        fit.run()
    assert fit.module.trainer.global_step == 1
    assert not (tmp_path / "checkpoints").exists()


def test_a_resumed_run_finds_the_states_of_callbacks_with_a_chosen_monitor(tmp_path: Path) -> None:
    first = Fit(tmp_path, modules.Classifier(), guides.Points())
    first.run()
    again = Fit(tmp_path, modules.Classifier(), guides.Points())
    for each in (again.checkpointing, again.stopping):
        set_monitor(each, VAL_LOSS)
    before: Any = first.checkpointing.best_score
    again.run(epochs=2, start_from=(tmp_path / "checkpoints/last.ckpt").resolve())
    assert again.checkpointing.best_score == before
    assert float(again.stopping.best_score) == pytest.approx(before)


def test_a_checkpoint_never_holds_objects_among_its_hyperparameters(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Fit(tmp_path, modules.WithObjects(), guides.Points()).run(epochs=1)
    saved = torch.load((tmp_path / "checkpoints/last.ckpt").resolve(), weights_only=True)
    assert saved["hyper_parameters"] == {"hidden": 8, "lr": 0.05}
    assert "cannot be loaded again" not in caplog.text


def test_other_objects_in_a_checkpoint_are_warned_of_at_the_first_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Keeping(modules.Classifier):
        def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
            checkpoint["kept"] = [signal.SIGTERM.name, Path("x")]

    Fit(tmp_path, Keeping(), guides.Points()).run(epochs=2)
    told = [record.message for record in caplog.records if "cannot be loaded again" in record.message]
    assert len(told) == 1 and "kept.1 (pathlib.PosixPath)" in told[0]
