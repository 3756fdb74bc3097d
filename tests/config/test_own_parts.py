"""What a user adds on the command line, accepted or refused before torch is imported."""

import pytest
from omegaconf import DictConfig, OmegaConf

from pipeline.config.checks.check_config import check_config
from pipeline.config.compose import compose
from pipeline.errors import ConfigError

F2 = "task.metrics.f2._target_=torchmetrics.FBetaScore"
HINGE = "task.metrics.hinge._target_=torchmetrics.classification.MulticlassHingeLoss"
LOSS = "task.loss._target_=torch.nn.CrossEntropyLoss"
PLATEAU = "scheduler._target_=torch.optim.lr_scheduler.ReduceLROnPlateau"
RMSPROP = "optimizer._target_=torch.optim.RMSprop"
ONE_CYCLE = "scheduler._target_=torch.optim.lr_scheduler.OneCycleLR"


def checked(words: list[str]) -> DictConfig:
    composed = compose(words)
    check_config(composed.config, composed.shipped)
    return composed.config


@pytest.mark.parametrize(
    "words",
    [
        [F2, "task.metrics.f2.beta=2.0", "checkpoint.monitor=val/f2", "checkpoint.mode=max"],
        [f"+{F2}", "+task.metrics.f2.beta=2.0"],
        [HINGE, "checkpoint.monitor=val/hinge"],
        [LOSS, "task.loss.label_smoothing=0.1"],
        [RMSPROP, "optimizer.learning_rate=1e-3", "optimizer.alpha=0.9"],
        [RMSPROP, "optimizer.lr=1e-3", "~optimizer.learning_rate"],
        [PLATEAU, "scheduler.patience=1", "scheduler.monitor=val/accuracy", "scheduler.mode=max"],
        [ONE_CYCLE, "scheduler.max_lr=0.1"],
        ["scheduler._target_=torch.optim.lr_scheduler.StepLR", "scheduler.step_size=1", "scheduler.interval=step"],
        ["+callbacks.timer._target_=pytorch_lightning.callbacks.Timer", "callbacks.timer.duration=00:12:00:00"],
        ["loggers=csv"],
        ["loggers=[csv,tensorboard]", "loggers.csv.flush_logs_every_n_steps=10"],
    ],
)
def test_a_part_of_ones_own_is_accepted(words: list[str]) -> None:
    config = checked(words)
    typed = [word.lstrip("+").partition("=") for word in words if not word.startswith(("~", "loggers="))]
    missing = object()
    for key, _, value in typed:
        found = OmegaConf.select(config, key, default=missing)
        assert found is not missing and (str(found) == value or float(found) == float(value))


@pytest.mark.parametrize(
    "words, told",
    [
        (["task.metrics.f2._target_=torchmetrics.FBetaScor"], "did you mean  torchmetrics.FBetaScore ?"),
        (["task.metrics.f2.beta=2.0"], "task.metrics.f2={beta:2.0} names no class"),
        (["task.metrics.f2=torchmetrics.FBetaScore"], "task.metrics.f2=torchmetrics.FBetaScore names no class"),
        (["task.metrics.accuracy._target_=torchmetrics.Accuracy"], "choose another name"),
        (["task.metrics.a_epoch._target_=torchmetrics.Accuracy"], "expected a name of letters, digits and _"),
        ([HINGE, "checkpoint.monitor=val/hinge", "checkpoint.mode=max"], "add checkpoint.mode=min"),
        (["task.loss._target_=torch.nn.CrossEntropyLos"], "did you mean  torch.nn.CrossEntropyLoss ?"),
        ([LOSS, "task.loss.label_smoothin=0.1"], "did you mean  task.loss.label_smoothing ?"),
        ([LOSS, "task.label_smoothing=0.1"], "task.loss takes the place of the loss that task.label_smoothing"),
        (["task.loss.label_smoothing=0.1"], "task.loss names no class"),
        (["task.lss._target_=torch.nn.CrossEntropyLoss"], "task.lss does not exist"),
        ([RMSPROP, "optimizer.lr=1e-3", "optimizer.learning_rate=1e-3"], "are the same: leave one out"),
        ([RMSPROP, "optimizer.alhpa=0.9"], "did you mean  optimizer.alpha ?"),
        (["scheduler.interval=batch"], "scheduler.interval=batch: expected step"),
        ([PLATEAU, "scheduler.monitor=val/accuracy"], "add scheduler.mode=max"),
        ([ONE_CYCLE, "scheduler.max_lr=0.1", "scheduler.total_steps=3"], "the run passes it"),
        (["loggers=cvs"], "did you mean  loggers=csv ?"),
        (["loggers=csv", "loggers.csv.flush=10"], "loggers.csv.flush does not exist"),
        (["+loggers.mine._target_=os.system"], "is not in a package that a configuration may call"),
        (["+loggers.mine.save_dir=here"], "loggers.mine={save_dir:here} is no logger"),
    ],
)
def test_a_mistake_is_refused(words: list[str], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        checked(words)
    assert told in str(caught.value)
