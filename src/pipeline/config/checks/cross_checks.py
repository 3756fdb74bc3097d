"""Check conditions between keys, and on the size of values, that need no data.

Only keys that exist are checked, so that a user's own nodes with other keys pass.
"""

import re
from collections.abc import Collection, Iterator
from math import ceil
from pathlib import Path
from typing import Any

from pipeline import metrics
from pipeline.config import search_path
from pipeline.config.checks.types import as_typed
from pipeline.config.search_path import MISSING
from pipeline.config.static.lookup import class_constant, is_lightning
from pipeline.config.suggestions import listing
from pipeline.errors import ConfigError

# A run needs all of these; a group that is not wanted has an option `none` or `default`.
REQUIRED_KEYS = (
    "name",
    "seed",
    "runs_dir",
    "data",
    "model",
    "task",
    "optimizer",
    "scheduler",
    "regularizer",
    "callbacks",
    "trainer",
    "checkpoint",
    "tracking",
    "launch",
)

# The keys that each build one object; callbacks and regularizers are several objects, by name.
OBJECT_KEYS = ("data", "model", "task", "optimizer", "scheduler", "trainer", "launch")

# Settings that count the batches of a DataLoader; our own loader does not pass Lightning single batches.
BATCH_COUNT_REMEDIES = {
    "limit_train_batches": "data.train_fraction=0.1",
    "limit_val_batches": "data.source.validation_share=0.05, where the data has one",
    "limit_test_batches": "data.source.test_share=0.05, where the data has one",
    "overfit_batches": "data.train_fraction=0.01",
    "fast_dev_run": "trainer.max_steps=1",
    "val_check_interval": "trainer.check_val_every_n_epoch=1",
}

METRIC_EXAMPLE = "task.metrics.f2._target_=torchmetrics.FBetaScore"
PLATEAU = "torch.optim.lr_scheduler.ReduceLROnPlateau"
UNFREEZING = "pipeline.training.callbacks.unfreezing.Unfreezing"
# Launchers whose processes see the files of this machine; nodes of a cluster may see others.
LOCAL_LAUNCHERS = ("pipeline.launch.local.Local", "pipeline.launch.torchrun.Torchrun")
KIND_NAMES = {"image": "images", "table": "a table", "audio": "sound", "text": "text"}
TASK_NAMES = {
    "multiclass": "one of several classes",
    "binary": "one of two classes",
    "multilabel": "any number of labels",
    "regression": "numbers",
}


def check_constraints(config: dict[str, Any]) -> None:
    """Raise ConfigError for the first condition that does not hold."""
    for problem in (
        *_missing(config),
        *_rendezvous(config),
        *_devices(config),
        *_batch(config),
        *_batch_norm(config),
        *_root(config),
        *_folds(config),
        *_balance(config),
        *_unfreezing(config),
        *_end(config),
        *_epochs(config),
        *_shares(config),
        *_heads(config),
        *_decibels(config),
        *_batches(config),
        *_modes(config),
        *_interval(config),
        *_memory(config),
        *_compatibility(config),
    ):
        raise ConfigError(problem)


def _missing(config: dict[str, Any]) -> Iterator[str]:
    for name in REQUIRED_KEYS:
        if name not in config:
            yield (
                f"{name} is missing, and a run needs it: leave out ~{name}; `pipeline train --info` lists what a "
                "group offers instead"
            )


def _rendezvous(config: dict[str, Any]) -> Iterator[str]:
    """Yield a problem if an address is not HOST:PORT; all processes must meet at the same port."""
    place = _at(config, "launch.rendezvous")
    match = re.fullmatch(r"([^\s:]+|\[[0-9a-fA-F:]+\]):([0-9]{1,5})", place) if isinstance(place, str) else None
    if isinstance(place, str) and (match is None or not 1 <= int(match[2]) <= 65535):
        host = re.sub(r":[^\]]*$", "", place).strip() or "node1"
        yield (
            f"launch.rendezvous={as_typed(place)}: expected HOST:PORT, the name of a node and a free port there "
            f"(1 to 65535), such as launch.rendezvous={host}:29400"
        )


def check_object_nodes(config: dict[str, Any]) -> None:
    """Raise ConfigError for the first node that must name a class and does not."""
    for problem in _objects(config):
        raise ConfigError(problem)


def _objects(config: dict[str, Any]) -> Iterator[str]:
    for name in OBJECT_KEYS:
        node = config.get(name)
        if name in config and not (isinstance(node, dict) and "_target_" in node):
            inner = " its keys stand by themselves in its file, not below its name;" if name in (node or {}) else ""
            yield (
                f"{name} names no class:{inner} choose one of the options that `pipeline train --info` lists, or give "
                f"its file a line such as  _target_: my_package.My{name.capitalize()}"
            )
    yield from _of_task(config.get("task") or {})
    for name in ("callbacks", "regularizer", "loggers"):
        for key, node in (config.get(name) or {}).items():
            if not isinstance(node, dict) or "_target_" not in node:
                kind = name.removesuffix("s")
                yield (
                    f"{name}.{key}={as_typed(node)} is no {kind}: expected a name of your choice, and below it "
                    f"a class, such as\n  my_{kind}:\n    _target_: my_package.My{kind.capitalize()}\n"
                    f"  to leave it out  ~{name}.{key}"
                )


def _of_task(task: dict[str, Any]) -> Iterator[str]:
    """Yield the problems of the loss and the metrics that the user adds to a task."""
    loss, named = task.get("loss"), task.get("metrics") or {}
    if isinstance(loss, dict) and "_target_" not in loss:
        yield "task.loss names no class, such as task.loss._target_=torch.nn.CrossEntropyLoss"
    if isinstance(loss, dict) and (task.get("label_smoothing") or task.get("class_weights")):
        yield (
            "task.loss takes the place of the loss that task.label_smoothing and task.class_weights are for: give such "
            "arguments to it, as in task.loss.label_smoothing=0.1, and leave those out"
        )
    if not isinstance(named, dict):
        yield f"task.metrics={as_typed(named)}: expected names and classes, such as {METRIC_EXAMPLE}"
        return
    for name, node in named.items():
        if name in metrics.METRICS:
            yield f"task.metrics.{name}: {name} is measured by this package; choose another name"
        if not re.fullmatch(r"[A-Za-z]\w*", str(name)) or str(name).endswith("_epoch"):
            yield f"task.metrics.{name}: expected a name of letters, digits and _, such as {METRIC_EXAMPLE}"
        if not isinstance(node, dict) or "_target_" not in node:
            yield f"task.metrics.{name}={as_typed(node)} names no class; expected one, such as {METRIC_EXAMPLE}"


def _devices(config: dict[str, Any]) -> Iterator[str]:
    devices = _at(config, "trainer.devices")
    numbers = devices if isinstance(devices, list) else [devices]
    is_number = isinstance(devices, int) and (devices >= 1 or devices == -1)
    is_list = isinstance(devices, list) and len(devices) > 0 and all(_is_number(each) and each >= 0 for each in numbers)
    if devices is not None and devices != "auto" and not is_number and not is_list:
        yield (
            f"trainer.devices={as_typed(devices)}: expected auto, a number of devices from 1, or a list of their "
            "numbers, such as trainer.devices=[0,1]"
        )


def _batch(config: dict[str, Any]) -> Iterator[str]:
    batch_size, devices = _at(config, "data.batch_size"), _at(config, "trainer.devices")
    on_a_node = len(devices) if isinstance(devices, list) else devices
    nodes = _at(config, "trainer.num_nodes") or 1
    if isinstance(on_a_node, int) and on_a_node >= 1 and isinstance(batch_size, int):
        processes = on_a_node * nodes
        if batch_size % processes != 0:
            enough = ceil(batch_size / processes) * processes
            yield (
                f"data.batch_size={batch_size} cannot be split over {processes} processes; use a multiple of "
                f"{processes}, such as {enough}"
            )


def _batch_norm(config: dict[str, Any]) -> Iterator[str]:
    """Yield a problem if batch norm gets one sample, which has no variance. `sync_batchnorm` joins all processes."""
    batch_size, devices = _at(config, "data.batch_size"), _at(config, "trainer.devices")
    on_a_node = len(devices) if isinstance(devices, list) else devices
    is_apart = _at(config, "trainer.sync_batchnorm") is False and isinstance(on_a_node, int) and on_a_node > 1
    processes = on_a_node * (_at(config, "trainer.num_nodes") or 1) if is_apart else 1
    is_normed = _at(config, "model.batch_norm") is True and _at(config, "model.widths") != []
    if is_normed and isinstance(batch_size, int) and batch_size == processes:
        yield (
            f"data.batch_size={batch_size} gives batch norm one sample{' in each process' * is_apart}, and it takes "
            f"the variance of several: use data.batch_size={16 * processes} or more, or model.batch_norm=false"
        )


def _root(config: dict[str, Any]) -> Iterator[str]:
    root, is_here = _at(config, "data.root"), _at(config, "launch._target_") in LOCAL_LAUNCHERS
    if not isinstance(root, str) or root == MISSING or not is_here or (_at(config, "launch.nodes") or 1) > 1:
        return
    if not Path(root).expanduser().exists():
        yield (
            f"data.root={root} does not exist; expected the folder that holds the files, or a table's file. "
            "Public data is downloaded if data.root is left out; data=mnist5k comes with the installation"
        )


def _folds(config: dict[str, Any]) -> Iterator[str]:
    folds, fold = _at(config, "data.folds"), _at(config, "data.fold")
    if isinstance(fold, int) and fold > 0 and (folds is None or (isinstance(folds, int) and fold >= folds)):
        wanted = "0 as long as data.folds is null; such as data.folds=5" if folds is None else f"0 to {folds - 1}"
        yield f"data.fold={fold}: expected {wanted}"


def _balance(config: dict[str, Any]) -> Iterator[str]:
    if _at(config, "data.balanced") is True and _at(config, "task.class_weights") == "balanced":
        yield (
            "data.balanced=true and task.class_weights=balanced each make all classes count alike; together they make "
            "rare ones count more than the others: leave one of them out"
        )


def _unfreezing(config: dict[str, Any]) -> Iterator[str]:
    """Yield a problem if Unfreezing gets random weights; a user's own model may load its weights itself."""
    model, nodes = config.get("model") or {}, (config.get("callbacks") or {}).items()
    names = [name for name, node in nodes if isinstance(node, dict) and node.get("_target_") == UNFREEZING]
    is_shipped = str(model.get("_target_")).startswith("pipeline.")
    if names and is_shipped and not model.get("pretrained") and config.get("init_from") is None:
        yield (
            f"callbacks.{names[0]} freezes pretrained weights for some epochs, but these are random: add "
            "init_from=RUN, or model.pretrained=... of model=timm and model=hugging_face"
        )


def _end(config: dict[str, Any]) -> Iterator[str]:
    trainer = config.get("trainer")
    if not isinstance(trainer, dict) or not {"max_epochs", "max_steps"} & trainer.keys():
        return
    endless = all(trainer.get(key) in (None, -1) for key in ("max_epochs", "max_steps"))
    if endless and trainer.get("max_time") is None:
        yield (
            "trainer.max_epochs and trainer.max_steps are both unset: training would never end; "
            "set one, such as trainer.max_epochs=10"
        )


def _epochs(config: dict[str, Any]) -> Iterator[str]:
    """Yield a problem for what would happen only after the last epoch."""
    epochs, every = _at(config, "trainer.max_epochs"), _at(config, "trainer.check_val_every_n_epoch")
    if not isinstance(epochs, int) or epochs < 1:
        return
    if isinstance(every, int) and every > epochs:
        yield (
            f"trainer.check_val_every_n_epoch={every}: nothing is validated in {epochs} epoch{'s' * (epochs > 1)}: "
            "use trainer.check_val_every_n_epoch=1; the best weights are known by validation only"
        )
    for key in ("scheduler.warmup_epochs", "trainer.min_epochs"):
        value = _at(config, key)
        if _is_number(value) and value > epochs:
            yield f"{key}={value} is more than trainer.max_epochs={epochs}; expected less, such as {key}=1"


def _shares(config: dict[str, Any]) -> Iterator[str]:
    keys = ("data.source.validation_share", "data.source.test_share")
    shares = [_at(config, key) for key in keys]
    if all(map(_is_number, shares)) and sum(shares) >= 1:
        typed = " ".join(f"{key}={share}" for key, share in zip(keys, shares, strict=True))
        yield f"{typed} leave nothing to learn from; expected less than 1 together, such as 0.2 and 0.2"


def _heads(config: dict[str, Any]) -> Iterator[str]:
    width, heads = _at(config, "model.width"), _at(config, "model.heads")
    if isinstance(width, int) and isinstance(heads, int) and heads > 0 and width % heads != 0:
        yield (
            f"model.width={width} model.heads={heads}: expected a width that is a multiple of the heads, such as "
            f"model.width={ceil(width / heads) * heads}"
        )


def _decibels(config: dict[str, Any]) -> Iterator[str]:
    bounds = _at(config, "callbacks.waveform_noise.decibels")
    if isinstance(bounds, list) and len(bounds) == 2 and all(map(_is_number, bounds)) and bounds[0] > bounds[1]:
        yield (
            f"callbacks.waveform_noise.decibels={as_typed(bounds)}: expected the loudest noise first, in decibels "
            f"below the recording, such as callbacks.waveform_noise.decibels=[{bounds[1]},{bounds[0]}]"
        )


def _batches(config: dict[str, Any]) -> Iterator[str]:
    """Yield a problem for a count of batches; only a LightningModule of the user's own gets a DataLoader."""
    trainer, model = config.get("trainer"), _at(config, "model._target_")
    for key in trainer if isinstance(trainer, dict) and not is_lightning(model) else ():
        if key in BATCH_COUNT_REMEDIES:
            yield f"trainer.{key} counts DataLoader batches; with this model use {BATCH_COUNT_REMEDIES[key]}"


def _modes(config: dict[str, Any]) -> Iterator[str]:
    """Yield a problem for a node whose `mode` does not fit the metric that it monitors."""
    watchers = {"checkpoint": config.get("checkpoint")}
    watchers |= {f"callbacks.{name}": node for name, node in (config.get("callbacks") or {}).items()}
    watchers |= {"scheduler": plateau} if (plateau := _plateau(config)) is not None else {}
    own = _own_modes(config)
    for path, node in watchers.items():
        if not isinstance(node, dict) or node.get("mode") is None:
            continue
        mode, monitor = node["mode"], str(node.get("monitor"))
        if mode not in ("min", "max"):
            yield f"{path}.mode={mode}: expected min (lower is better) or max (higher is better)"
        if monitor.startswith("test/"):
            yield (
                f"{path}.monitor={monitor}: the test set chooses nothing; monitor what validation measures, such as "
                f"val/{monitor.removeprefix('test/')}"
            )
        name = monitor.rpartition("/")[2].removesuffix("_epoch")
        better = metrics.mode_of(name, own) if name in {**metrics.METRICS, **own} else None
        if better is not None and better != mode:
            yield metrics.wrong_mode_message(f"{path}.monitor={monitor}", better, f"{path}.mode")


def _own_modes(config: dict[str, Any]) -> dict[str, metrics.Mode]:
    """Return the modes of the user's own metrics whose classes state `higher_is_better`."""
    nodes = (config.get("task") or {}).get("metrics") or {}
    told = {name: class_constant(node.get("_target_"), "higher_is_better") for name, node in nodes.items()}
    return {name: "max" if higher else "min" for name, higher in told.items() if isinstance(higher, bool)}


def _plateau(config: dict[str, Any]) -> dict[str, Any] | None:
    """Return the monitor and mode of a ReduceLROnPlateau scheduler, defaults included; None for another one."""
    scheduler, checkpoint = config.get("scheduler") or {}, config.get("checkpoint") or {}
    if scheduler.get("_target_") != PLATEAU:
        return None
    return {"monitor": scheduler.get("monitor", checkpoint.get("monitor")), "mode": scheduler.get("mode", "min")}


def _interval(config: dict[str, Any]) -> Iterator[str]:
    interval = _at(config, "scheduler.interval")
    if interval not in (None, "step", "epoch"):
        yield f"scheduler.interval={as_typed(interval)}: expected step (after each optimiser step) or epoch"


def _memory(config: dict[str, Any]) -> Iterator[str]:
    chosen, strategy = _at(config, "batch.on_out_of_memory"), str(_at(config, "trainer.strategy") or "auto")
    if chosen == "halve" and not strategy.startswith(("auto", "ddp", "single")):
        yield (
            f"batch.on_out_of_memory=halve needs gradients that each process holds whole, which "
            f"trainer.strategy={strategy} does not have: use trainer.strategy=ddp, or a smaller data.batch_size with "
            "trainer.accumulate_grad_batches"
        )


def _compatibility(config: dict[str, Any]) -> Iterator[str]:
    """Yield the problems of a model, a task and callbacks that do not fit the data.

    A data source declares what it gives: `kind` (image, table, audio, text) and `task`. The others declare what they
    take: `kinds` and `tasks`. A class that declares nothing is not checked.
    """
    data = config.get("data")
    source = data.get("source") if isinstance(data, dict) else None
    if not isinstance(source, dict):
        return
    giver = str(source.get("_target_")).rpartition(".")[2]
    kind, task = class_constant(source.get("_target_"), "kind"), _task(source)
    for path, node in _takers(config):
        kinds, tasks = (class_constant(node.get("_target_"), name) for name in ("kinds", "tasks"))
        if kind in KIND_NAMES and kinds and kind not in kinds:
            yield (
                f"{_named(path, node)} takes {_listed(kinds, KIND_NAMES)}; {giver} (data.source) "
                f"gives {KIND_NAMES[kind]}{_instead(path, 'kinds', kind)}"
            )
        if task in TASK_NAMES and tasks and task not in tasks:
            yield (
                f"{_named(path, node)} answers with {_listed(tasks, TASK_NAMES)}; {giver} (data.source) asks for "
                f"{TASK_NAMES[task]}{_instead(path, 'tasks', task)}"
            )
    yield from _of_classes(config.get("task"), giver, task)


def _task(source: dict[str, Any]) -> Any:
    """Return the task that a source declares; `positive` turns several classes into two."""
    found = class_constant(source.get("_target_"), "task")
    return "binary" if found == "multiclass" and source.get("positive") is not None else found


def _takers(config: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    nodes = {path: config.get(path) for path in ("model", "task")}
    nodes |= {f"callbacks.{name}": node for name, node in (config.get("callbacks") or {}).items()}
    for path, node in nodes.items():
        if isinstance(node, dict):
            yield path, node


def _of_classes(node: Any, giver: str, task: Any) -> Iterator[str]:
    """Yield the problems of settings that need classes."""
    if not isinstance(node, dict) or task not in ("regression", "multilabel"):
        return
    smoothing, weights = node.get("label_smoothing"), node.get("class_weights")
    if task == "regression" and isinstance(smoothing, int | float) and smoothing > 0:
        yield (
            f"task.label_smoothing={smoothing} spreads certainty over classes; {giver} (data.source) asks for numbers: "
            "leave it out"
        )
    if weights is not None:
        yield (
            f"task.class_weights={weights} weighs classes; "
            f"{giver} (data.source) asks for {TASK_NAMES[task]}: leave it out"
        )


def _named(path: str, node: dict[str, Any]) -> str:
    """Return a node's name for a message: its option if one has its class, or the name of a callback."""
    if path.startswith("callbacks."):
        return path
    alike = {name: len(file.items() & node.items()) for name, file in _options(path, node.get("_target_"))}
    return f"{path}={max(alike, key=alike.__getitem__)}" if alike else f"{path}._target_={node.get('_target_')}"


def _instead(path: str, name: str, given: str) -> str:
    if path.startswith("callbacks."):
        return f": leave it out, ~{path}"
    if path == "task":
        return ": leave task out"
    fitting = [option for option, file in _options(path) if given in (class_constant(file.get("_target_"), name) or [])]
    return listing("those that fit", (f"{path}={option}" for option in fitting))


def _options(group: str, target: Any = None) -> Iterator[tuple[str, dict[str, Any]]]:
    for option, file in search_path.option_groups(search_path.config_folders()).get(group, {}).items():
        content = search_path.read_yaml(file)
        if target is None or content.get("_target_") == target:
            yield option, {key: value for key, value in content.items() if not isinstance(value, dict | list)}


def _listed(names: Collection[str], words: dict[str, str]) -> str:
    return " or ".join(words[name] for name in names if name in words)


def _at(config: dict[str, Any], key: str) -> Any:
    """Return the value of a dotted key; None if it does not exist."""
    node: Any = config
    for name in key.split("."):
        node = node.get(name) if isinstance(node, dict) else None
    return node


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
