"""Whether the data and what is to be done with it go together, by what their classes state of themselves.

A source states what it gives: `kind` (image, table, audio, text) and `task`. A model, a task and a callback state what
they take: `kinds` and `tasks`. Of what states nothing, nothing is said here.
"""

from collections.abc import Collection, Iterator
from typing import Any

from pipeline.config import search_path
from pipeline.config.static.lookup import stated
from pipeline.config.suggestions import all_of

WORDS = {"image": "images", "table": "a table", "audio": "sound", "text": "text"}
TASKS = {
    "multiclass": "one of several classes",
    "binary": "one of two classes",
    "multilabel": "any number of labels",
    "regression": "numbers",
}


def problems(config: dict[str, Any]) -> Iterator[str]:
    data = config.get("data")
    source = data.get("source") if isinstance(data, dict) else None
    if not isinstance(source, dict):
        return
    giver = str(source.get("_target_")).rpartition(".")[2]
    kind, task = stated(source.get("_target_"), "kind"), _task(source)
    for path, node in _takers(config):
        kinds, tasks = (stated(node.get("_target_"), name) for name in ("kinds", "tasks"))
        if kind in WORDS and kinds and kind not in kinds:
            yield (
                f"{_named(path, node)} takes {_listed(kinds, WORDS)}; {giver} (data.source) gives {WORDS[kind]}"
                f"{_instead(path, 'kinds', kind)}"
            )
        if task in TASKS and tasks and task not in tasks:
            yield (
                f"{_named(path, node)} answers with {_listed(tasks, TASKS)}; {giver} (data.source) asks for "
                f"{TASKS[task]}{_instead(path, 'tasks', task)}"
            )
    yield from _of_classes(config.get("task"), giver, task)


def _task(source: dict[str, Any]) -> Any:
    """`positive` makes two classes of many."""
    found = stated(source.get("_target_"), "task")
    return "binary" if found == "multiclass" and source.get("positive") is not None else found


def _takers(config: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    nodes = {path: config.get(path) for path in ("model", "task")}
    nodes |= {f"callbacks.{name}": node for name, node in (config.get("callbacks") or {}).items()}
    for path, node in nodes.items():
        if isinstance(node, dict):
            yield path, node


def _of_classes(node: Any, giver: str, task: Any) -> Iterator[str]:
    """What only classes can be given."""
    if not isinstance(node, dict) or task not in ("regression", "multilabel"):
        return
    smoothing, weights = node.get("label_smoothing"), node.get("class_weights")
    if task == "regression" and isinstance(smoothing, int | float) and smoothing > 0:
        yield (
            f"task.label_smoothing={smoothing} spreads certainty over classes; {giver} (data.source) asks for numbers: "
            "leave it out"
        )
    if weights is not None:
        yield f"task.class_weights={weights} weighs classes; {giver} (data.source) asks for {TASKS[task]}: leave it out"


def _named(path: str, node: dict[str, Any]) -> str:
    """By the option that it is, where there is one for its class; a callback by its own name."""
    if path.startswith("callbacks."):
        return path
    alike = {name: len(file.items() & node.items()) for name, file in _options(path, node.get("_target_"))}
    return f"{path}={max(alike, key=alike.__getitem__)}" if alike else f"{path}._target_={node.get('_target_')}"


def _instead(path: str, name: str, given: str) -> str:
    if path.startswith("callbacks."):
        return f": leave it out, ~{path}"
    if path == "task":
        return ": leave task out"
    fitting = [option for option, file in _options(path) if given in (stated(file.get("_target_"), name) or [])]
    return all_of("those that fit", (f"{path}={option}" for option in fitting))


def _options(group: str, target: Any = None) -> Iterator[tuple[str, dict[str, Any]]]:
    for option, file in search_path.groups(search_path.folders()).get(group, {}).items():
        content = search_path.read_file(file)
        if target is None or content.get("_target_") == target:
            yield option, {key: value for key, value in content.items() if not isinstance(value, dict | list)}


def _listed(names: Collection[str], words: dict[str, str]) -> str:
    return " or ".join(words[name] for name in names if name in words)
