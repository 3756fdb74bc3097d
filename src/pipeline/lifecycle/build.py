"""Build data, model and learner from a frozen configuration."""

import inspect
import logging
from collections.abc import Container
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.core.hooks import DataHooks
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from torchmetrics import Metric

from pipeline import metrics
from pipeline.config import instantiate
from pipeline.data.datamodule import DataModule
from pipeline.errors import ConfigError
from pipeline.metrics import Mode
from pipeline.models.network import Network, spec_for_model
from pipeline.spec import DataSpec
from pipeline.system.process import Rank
from pipeline.training import checkpoints
from pipeline.training.custom_task import CustomTask
from pipeline.training.halving import HalvingLearner
from pipeline.training.learner import Learner
from pipeline.training.optimizers import check_optimizer
from pipeline.training.schedules import Schedule
from pipeline.training.task import Task, accept_old_names, check_scores

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Components:
    """The module and the data of a run, before there is a Trainer."""

    module: pl.LightningModule
    data: pl.LightningDataModule
    spec: DataSpec | None  # None: the user's own LightningDataModule without a spec
    steps_per_epoch: int | None
    total_steps: int | None

    @property
    def model_name(self) -> str:
        """The class of the network, or of a user's own module."""
        return type(getattr(getattr(self.module, "network", None), "body", self.module)).__name__

    @property
    def trainable_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.module.parameters() if parameter.requires_grad)

    @property
    def headline(self) -> str:
        """The validation metric that sums the run up."""
        return f"val/{self.module.task.headline}" if isinstance(self.module, Learner) else "val/loss"

    @property
    def metric_names(self) -> set[str] | None:
        """The metrics that a callback can monitor; None for a user's own module, which logs what it likes."""
        if not isinstance(self.module, Learner):
            return None
        evaluated = {"loss", *(str(name) for name in self.module.validation.metrics)} - self.undefined.keys()
        running = {"loss", *self.module.task.sample_metric_names}
        return (
            {f"val/{name}" for name in evaluated}
            | {f"train/{name}" for name in running}
            | {f"train/{name}_epoch" for name in running}
        )

    def check_monitor(self, callback: str, monitor: str, mode: str | None) -> None:
        """Raise ConfigError if a Learner never produces the metric, or if the mode is the wrong one for it."""
        produced = self.metric_names
        if produced is None:
            return
        if monitor not in produced:
            why = self.undefined.get(monitor.removeprefix("val/"))
            reason = "nothing produces" if why is None else f"is not defined ({why} in the validation split)"
            raise ConfigError(
                f"{callback} monitors {monitor}, which {reason}; choose one of {', '.join(sorted(produced))}"
            )
        better = self.custom_modes.get(monitor.rpartition("/")[2])
        if better is not None and mode in ("min", "max") and mode != better:
            node = {"Checkpointing": "checkpoint", "PruningCallback": "checkpoint", "Scheduler": "scheduler"}.get(
                callback, "callbacks.early_stopping"
            )
            subject = f"{callback} monitors {monitor}, which"
            raise ConfigError(metrics.wrong_mode_message(subject, better, f"{node}.mode"))

    @property
    def custom_modes(self) -> dict[str, Mode]:
        """The better direction of each metric that the user added."""
        task = self.module.task if isinstance(self.module, Learner) else None
        return task.modes if isinstance(task, CustomTask) else {}

    @property
    def undefined(self) -> dict[str, str]:
        """{metric: why it is undefined on the validation split}; empty if its targets are unknown."""
        if not isinstance(self.module, Learner) or not isinstance(self.data, DataModule):
            return {}
        return self.module.validation.undefined_on(self.data.splits.validation.targets)


def build_components(config: DictConfig, rank: Rank, loaded: DataModule | None = None) -> Components:
    """Build the components. Raises UserError for all that can be found wrong before the first step.

    `loaded` is a DataModule whose data is used again, as far as it fits.
    """
    torch.set_float32_matmul_precision("high")
    pl.seed_everything(config.seed, workers=False, verbose=False)  # before any weight is drawn
    data = build_data(config, rank, loaded)
    spec: DataSpec | None = getattr(data, "spec", None)
    if spec is None and "spec" in _accepted_arguments(config, "model"):
        raise _missing_spec_error(config, data)
    task: Task | None = None
    seen = spec
    if spec is not None and not _is_lightning_module(config):
        task = build_task(config, spec)
        spec = replace(spec, task=task.kind)  # the configuration may ask for another task than the data suggest
        seen = spec_for_model(spec)
    model = _instantiate(config, "model", **({} if seen is None else {"spec": seen}))
    if isinstance(model, nn.Module) and "initialization" in config:  # a run of an older version has none
        instantiate.instantiate(config.initialization, config).apply(model)
    if isinstance(model, pl.LightningModule):
        if on_out_of_memory(config) == "halve":
            raise ConfigError(
                "batch.on_out_of_memory=halve splits batches for a network of yours, not for a whole LightningModule, "
                "which takes them as they are: use a smaller data.batch_size with trainer.accumulate_grad_batches"
            )
        if type(model).train_dataloader is not DataHooks.train_dataloader:
            log.warning(
                "%s has a train_dataloader of its own, which is not used: the samples are those of %s",
                type(model).__name__,
                type(data).__name__,
            )
        if isinstance(data, DataModule):
            data.use_tuples()
        return Components(model, data, spec, None, None)
    check_lightning_package(model, "model")
    if spec is None or task is None:
        raise _missing_spec_error(config, data)
    return _build_learner(config, model, data, spec, task)


def check_lightning_package(instance: object, node: str) -> None:
    """Raise ConfigError for an object of the package `lightning`, whose classes only have the same names."""
    if any(base.__module__.startswith("lightning.pytorch.") for base in type(instance).__mro__):
        raise ConfigError(
            f"{node}._target_: {type(instance).__name__} is made for the package lightning, and this program runs on "
            "pytorch_lightning, which is the same under another name: import pytorch_lightning as L"
        )


def build_data(config: DictConfig, rank: Rank, loaded: DataModule | None = None) -> pl.LightningDataModule:
    """Build and load the data. What `loaded` holds is not loaded again."""
    offered = {
        "seed": config.seed,
        "rank": rank.rank,
        "world_size": rank.world_size,
        "accumulate": config.trainer.get("accumulate_grad_batches", 1),
        "log_every_n_steps": config.trainer.get("log_every_n_steps", 50),
    }
    data = _instantiate(config, "data", **offered)
    check_lightning_package(data, "data")
    if not isinstance(data, pl.LightningDataModule):
        raise ConfigError(
            f"data._target_={config.data._target_} is not a LightningDataModule; a source of your own goes to "
            "data.source._target_"
        )
    if isinstance(data, DataModule):
        if loaded is not None:
            data.reuse(loaded)
        data.load()
    return data


def _build_learner(
    config: DictConfig, model: Any, data: pl.LightningDataModule, spec: DataSpec, task: Task
) -> Components:
    if not isinstance(model, nn.Module):
        raise ConfigError(f"model._target_={config.model._target_} is not a torch.nn.Module")
    accumulate = config.trainer.get("accumulate_grad_batches", 1)
    if not isinstance(data, DataModule) and accumulate != 1:
        raise ConfigError(
            f"trainer.accumulate_grad_batches={accumulate} needs a data source of the pipeline's; "
            f"with {type(data).__name__} use larger batches"
        )
    network = Network(body=model, spec=spec)
    if isinstance(data, DataModule):
        check_scores(network, data.example(2), spec)
    steps_per_epoch = count_steps_per_epoch(data, config)
    total_steps = planned_steps(config, steps_per_epoch)
    learner = (HalvingLearner if on_out_of_memory(config) == "halve" else Learner)(
        network=network,
        task=task,
        regularizers=list(instantiate.instantiate(config.regularizer, config).values()),
        make_optimizer=instantiate.instantiate(config.optimizer, config),
        schedule=build_schedule(config),
        steps_per_epoch=steps_per_epoch,
        total_steps=total_steps,
        seed=config.seed,
        gradient_clip_val=config.trainer.get("gradient_clip_val"),
        gradient_clip_algorithm=config.trainer.get("gradient_clip_algorithm", "norm"),
        sync_batchnorm=config.trainer.get("sync_batchnorm", True),
    )
    scheduler = check_optimizers(learner)
    components = Components(learner, data, spec, steps_per_epoch, total_steps)
    if isinstance(scheduler, ReduceLROnPlateau):
        assert learner.schedule.monitor is not None
        components.check_monitor("Scheduler", learner.schedule.monitor, scheduler.mode)
    return components


def build_task(config: DictConfig, spec: DataSpec) -> Task:
    """Build the task, with the loss and the metrics that the configuration adds."""
    task: Task = _instantiate(config, "task", spec=spec)
    accept_old_names(task)
    accepted = _accepted_arguments(config, "task")
    loss = None if "loss" in accepted else config.task.get("loss")
    named = {} if "metrics" in accepted else config.task.get("metrics") or {}
    if loss is None and not named:
        return task
    seen = replace(spec, task=task.kind)
    return CustomTask(
        task,
        spec=seen,
        loss=None if loss is None else instantiate.instantiate(loss, config),
        metrics={str(name): _build_metric(config, f"task.metrics.{name}", seen) for name in named},
    )


def _build_metric(config: DictConfig, path: str, spec: DataSpec) -> Metric:
    """Build a metric of torchmetrics, with facts of the data for arguments that the configuration does not set."""
    arguments_by_task: dict[str, dict[str, Any]] = {
        "multiclass": {"task": "multiclass", "num_classes": spec.num_classes},
        "binary": {"task": "binary"},
        "multilabel": {"task": "multilabel", "num_labels": spec.num_classes},
        "regression": {},
    }
    arguments = arguments_by_task.get(spec.task, {})
    node = OmegaConf.select(config, path)
    accepted = _accepted_arguments(config, path)
    offered = {name: value for name, value in arguments.items() if name in accepted and name not in node}
    metric = instantiate.instantiate(node, config, **offered)
    if not isinstance(metric, Metric):
        raise ConfigError(
            f"{path}._target_={node._target_} makes a {type(metric).__name__}; expected a torchmetrics.Metric, whose "
            "values over all batches and processes are exact"
        )
    return metric


def build_schedule(config: DictConfig) -> Schedule:
    """Build the scheduler of the configuration, with its interval and, if it waits for one, its metric."""
    node, accepted = config.scheduler, _accepted_arguments(config, "scheduler")
    own_keys = {name: node[name] for name in ("interval", "monitor") if name in node and name not in accepted}
    return Schedule(
        instantiate.instantiate(node, config),
        interval=own_keys.get("interval") or ("step" if "total_steps" in accepted or "kwargs" in accepted else "epoch"),
        monitor=own_keys.get("monitor") or config.checkpoint.monitor,
    )


def check_optimizers(learner: Learner) -> LRScheduler:
    """Build optimiser and scheduler once and return the scheduler, so that mistakes show before the run begins.

    Raises ConfigError for arguments that do not fit, and for an optimiser that cannot train.
    """
    try:
        configured = learner.configure_optimizers()
        optimizer: Optimizer = configured["optimizer"]
        scheduler: LRScheduler = configured["lr_scheduler"]["scheduler"]
    except (ValueError, TypeError) as problem:
        raise ConfigError(f"optimizer or scheduler: {problem}") from problem
    if type(optimizer).__module__.startswith("torch.optim."):
        check_optimizer(learner.make_optimizer, type(optimizer).__name__)
    return scheduler


def on_out_of_memory(config: DictConfig) -> Literal["stop", "halve"]:
    action: Literal["stop", "halve"] = OmegaConf.select(config, "batch.on_out_of_memory", default="stop")
    return action


def count_steps_per_epoch(data: pl.LightningDataModule, config: DictConfig) -> int:
    steps: int
    if isinstance(data, DataModule):
        steps = data.steps_per_epoch
    else:
        data.prepare_data()
        data.setup("fit")
        try:
            steps = len(data.train_dataloader())
        except TypeError:  # an IterableDataset
            steps = _steps_without_length(data, config)
    return steps


def _steps_without_length(data: pl.LightningDataModule, config: DictConfig) -> int:
    steps = config.trainer.get("max_steps", -1)
    if steps is None or steps < 0:
        raise ConfigError(
            f"the number of batches of {type(data).__name__} is unknown, and the learning rate depends on the length "
            "of training: give it in steps, such as trainer.max_steps=1000"
        )
    return int(steps)


def planned_steps(config: DictConfig, steps_per_epoch: int) -> int:
    """Return the optimiser steps of the whole training, from epochs and steps, whichever ends first."""
    epochs, steps = config.trainer.get("max_epochs"), config.trainer.get("max_steps", -1)
    limits: list[int] = [steps] if steps is not None and steps >= 0 else []
    if epochs is not None and epochs >= 0:
        limits.append(epochs * steps_per_epoch)
    if not limits:
        raise ConfigError("trainer.max_epochs and trainer.max_steps are both unset: set one, trainer.max_epochs=10")
    return max(min(limits), 1)


def load_initial_weights(path: Path, module: pl.LightningModule) -> None:
    """Load the weights of another run, together with the statistics that scale its inputs.

    Raises ConfigError, with the first differences, if they do not fit.
    """
    loaded = checkpoints.evaluation_weights(checkpoints.load_checkpoint(path))
    own = module.state_dict()
    wrong = [f"{name} is missing" for name in own if name not in loaded]
    wrong += [f"{name} is unknown here" for name in loaded if name not in own]
    wrong += [
        f"{name} is {tuple(loaded[name].shape)} there and {tuple(value.shape)} here"
        for name, value in own.items()
        if name in loaded and isinstance(value, Tensor) and loaded[name].shape != value.shape
    ]
    if wrong:
        raise ConfigError(
            f"init_from={path}: these weights are of another model: {'; '.join(wrong[:3])}"
            f"{f'; and {len(wrong) - 3} more' if len(wrong) > 3 else ''}. Choose the model and the kind of data that "
            f"{path.parent.parent.name} was trained with"
        )
    module.load_state_dict(loaded)


def _missing_spec_error(config: DictConfig, data: pl.LightningDataModule) -> ConfigError:
    return ConfigError(
        f"data={type(data).__name__} has no `spec`, so model={config.model._target_} cannot know its classes: "
        "give it an attribute spec (pipeline.spec.DataSpec), or use a LightningModule of your own as the model"
    )


def _instantiate(config: DictConfig, node: str, **offered: Any) -> Any:
    """Build `config.<node>` with those of the offered values that its signature names."""
    accepted = _accepted_arguments(config, node)
    return instantiate.instantiate(
        config[node], config, **{name: value for name, value in offered.items() if name in accepted}
    )


def _is_lightning_module(config: DictConfig) -> bool:
    """Return whether the model is the user's own LightningModule, which defines its task itself."""
    target = get_object(config.model.get("_target_", "builtins.object"))
    return isinstance(target, type) and issubclass(target, pl.LightningModule)


def _accepted_arguments(config: DictConfig, node: str) -> Container[str]:
    """Return the parameter names of the target of `config.<node>`."""
    target = OmegaConf.select(config, node).get("_target_")
    if target is None:
        raise ConfigError(f"{node} has no _target_; choose one of the options that `pipeline train --info` lists")
    return inspect.signature(get_object(target)).parameters
