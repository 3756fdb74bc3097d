"""Check that the data fits the model, the task and the callbacks, by what their classes declare.

A data source declares what it gives: `kind` (image, table, audio, text) and `task`. A model, a task and a callback
declare what they take: `kinds` and `tasks`. A class that declares nothing is not checked.
"""

from collections.abc import Collection, Iterator
from typing import Any

from pipeline.config import search_path
from pipeline.config.static.lookup import class_constant
from pipeline.config.suggestions import listing

KIND_NAMES = {"image": "images", "table": "a table", "audio": "sound", "text": "text"}
TASK_NAMES = {
    "multiclass": "one of several classes",
    "binary": "one of two classes",
    "multilabel": "any number of labels",
    "regression": "numbers",
}


def compatibility_problems(config: dict[str, Any]) -> Iterator[str]:
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
