"""The best configuration on seeds that the search has not seen, beside the default one. Only here is there a test."""

import json
import re
import statistics
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import DONE
from pipeline.lifecycle.final_test import headline_metric
from pipeline.metrics import lower_is_better
from pipeline.run_files import RunFile
from pipeline.runs.run_directory import Run
from pipeline.search import recipe
from pipeline.search.plan import Plan
from pipeline.seeds import derive_seed
from pipeline.system.files import write_atomically
from pipeline.system.json_shape import DictOf
from pipeline.system.process import module_command

FILE = RunFile(
    "final.json",
    "the runs on fresh seeds are not known any more",
    "the search trains them anew",
    DictOf({"kind": re.compile("best|default"), "run": str, "metrics": DictOf(float)}),
)
FINAL = FILE.name
BEST, DEFAULT = "best", "default"


@dataclass(frozen=True)
class FinalComparison:
    """Of one test metric, a value for each seed."""

    metric: str
    best: list[float]
    default: list[float]

    @property
    def sentence(self) -> str:
        """The figures, and what they say."""
        if not self.default:
            return f"{self.metric} {_summary(self.best)}; {self.verdict}"
        return f"{self.metric} {_summary(self.best)}, the default {_summary(self.default)}: {self.verdict}"

    @property
    def verdict(self) -> str:
        """A gain is clear if every seed of the best beats every seed of the default, which with three seeds each
        happens by chance once in twenty times."""
        if not self.default:
            return "the default configuration is the best"
        if min(len(self.best), len(self.default)) < 3:
            return "too few seeds to tell them apart"
        sign = -1 if lower_is_better(self.metric) else 1
        better = min(sign * each for each in self.best) > max(sign * each for each in self.default)
        worse = max(sign * each for each in self.best) < min(sign * each for each in self.default)
        return "a clear gain" if better else "it is worse" if worse else "no clear gain"


def run_final_evaluation(
    plan: Plan, folder: Path, params: dict[str, Any], tell: Callable[[str], None]
) -> FinalComparison | None:
    """Train and test both; keep what an earlier call has found. Return None if no test figure could be had."""
    seeds = [
        derive_seed(int(plan.config.seed), "final", number) % 10_000 for number in range(plan.settings.final_seeds)
    ]
    kinds = _kinds(plan, params)
    found = _kept(folder)
    for kind, values in kinds.items():
        for seed in seeds:
            key = f"{_label(kind, values)}{seed}"
            if key in found:
                continue
            run = _train(plan, folder, values, kind, seed)
            result = None if run is None else run.result()
            if run is None or result is None:
                tell(f"the {kind} configuration could not be trained with seed={seed}: {folder / 'final.log'}")
                continue
            found[key] = {"kind": kind, "run": str(run.folder), "metrics": result["metrics"]}
            write_atomically(folder / FINAL, json.dumps(found, indent=2) + "\n")
            tell(f"{kind} configuration, seed {seed}: {_headline(result['metrics'])}  ({run.folder.name})")
    return _compare(found, kinds)


def saved_comparison(plan: Plan, folder: Path, params: dict[str, Any]) -> FinalComparison | None:
    """Return what is saved for these values so far; None before anything is."""
    return _compare(_kept(folder), _kinds(plan, params))


def _kinds(plan: Plan, params: dict[str, Any]) -> dict[str, dict[str, Any]]:
    is_default = params == plan.default_params() and not plan.keys_without_default()
    return {BEST: params} if is_default else {BEST: params, DEFAULT: {}}


def _label(kind: str, values: dict[str, Any]) -> str:
    return f"{kind} {json.dumps(values, sort_keys=True)} "


def _train(plan: Plan, folder: Path, values: dict[str, Any], kind: str, seed: int) -> Run | None:
    """Train an ordinary run, which leaves a run directory of its own."""
    runs = Path(plan.config.runs_dir).absolute()
    name = f"{folder.name}-{kind}"
    before = set(runs.glob(f"*-{name}-*"))
    words = [*recipe.trial_command(plan, values)[2:], f"seed={seed}", f"name={name}", f"runs_dir={runs}"]
    with (folder / "final.log").open("ab") as log:
        done = subprocess.run(module_command("pipeline", "train", *words), stdout=log, stderr=log, check=False)
    made = sorted(set(runs.glob(f"*-{name}-*")) - before)
    return Run(made[-1]) if done.returncode == DONE and made else None


def _kept(folder: Path) -> dict[str, dict[str, Any]]:
    return FILE.record_or_warn(folder) or {}


def _compare(entries: dict[str, dict[str, Any]], kinds: dict[str, dict[str, Any]]) -> FinalComparison | None:
    labels = tuple(_label(kind, values) for kind, values in kinds.items())
    chosen = [entry for key, entry in entries.items() if key.startswith(labels)]
    metric = headline_metric(set.intersection(*(set(entry["metrics"]) for entry in chosen))) if chosen else None
    if metric is None:
        return None
    values: dict[str, list[float]] = {BEST: [], DEFAULT: []}
    for entry in chosen:
        values[entry["kind"]].append(entry["metrics"][metric])
    if not all(values[kind] for kind in kinds):  # the one without the other says nothing
        return None
    return FinalComparison(metric, values[BEST], values[DEFAULT])


def _headline(metrics: dict[str, float]) -> str:
    name = headline_metric(metrics)
    return "no test metric" if name is None else f"{name} {metrics[name]:.4f}"


def _summary(values: list[float]) -> str:
    if len(values) == 1:
        return f"{values[0]:.4f}"
    return f"{statistics.mean(values):.4f} ± {statistics.stdev(values):.4f} ({len(values)} seeds)"
