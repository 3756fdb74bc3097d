"""The private names of dependencies that are used here: on the day of an upgrade these tests say what moved, and where
it is used. Whatever else is private is for nobody to use: the first test finds it."""

import ast
import atexit
import importlib
import inspect
import pickle
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

SOURCE = Path(__file__).parents[1] / "src/pipeline"
PUBLIC = ("_replace", "_asdict", "_fields", "_make", "_exit")  # documented in spite of the underscore
USED = {
    ("config/hydra_private.py", "hydra._internal.hydra"),
    ("config/hydra_private.py", "hydra._internal.utils"),
    ("config/hydra_private.py", "_get_full_key"),
    ("runs/checkpoint_progress.py", "_Unpickler"),
    ("system/process.py", "_run_exitfuncs"),
    ("search/optuna_private.py", "_get_stale_trial_ids"),
    ("search/optuna_private.py", "_storage"),
    ("search/optuna_private.py", "_study_id"),
    ("search/optuna_private.py", "_trial_id"),
    ("training/lightning_private.py", "_on_after_step"),
    ("training/lightning_private.py", "_on_before_step"),
    ("training/torch_private.py", "_batch_norm_impl_index"),
    ("training/torch_private.py", "_foreach_lerp_"),
    ("training/torch_private.py", "_get_sequence_number_for_group"),
}


def private_names_in(path: Path) -> set[str]:
    """Those that are not defined in the file itself; _target_ and its like are keys of Hydra's."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    own = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    own |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)}
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) not in ("self", "cls"):
            found |= {node.attr} - own - set(PUBLIC) if is_private(node.attr) else set()
        if isinstance(node, ast.ImportFrom) and any(is_private(part) for part in (node.module or "").split(".")):
            found.add(str(node.module))
    return found - {"_csv"}  # for types alone: csv gives its reader's type no public name


def is_private(name: str) -> bool:
    is_key = name.endswith("_") and name.count("_") == 2
    return name.startswith("_") and not name.startswith("__") and not is_key


def test_private_names_are_used_nowhere_but_in_the_one_module_for_their_library() -> None:
    found = {
        (path.relative_to(SOURCE).as_posix(), name) for path in SOURCE.rglob("*.py") for name in private_names_in(path)
    }
    assert found == USED


def test_optuna_keeps_storage_and_numbers_where_a_search_looks_for_them() -> None:
    import optuna

    from pipeline.search import optuna_private as private

    study = optuna.create_study(storage=optuna.storages.RDBStorage("sqlite://", heartbeat_interval=60))
    trial = study.ask()
    assert hasattr(study, "_storage"), "Study._storage moved: search/optuna_private.py study_storage writes through it"
    assert hasattr(study, "_study_id"), "Study._study_id moved: search/optuna_private.py stale_trial_ids"
    assert hasattr(trial, "_trial_id"), "Trial._trial_id moved: search/optuna_private.py trial_id_of"
    frozen = study.trials[0]
    assert getattr(frozen, "_trial_id", None) == private.trial_id_of(trial), "FrozenTrial._trial_id moved: the same"
    database = private.study_database(study)
    assert database is not None, "the cache around RDBStorage no longer keeps it in _backend: study_database"
    assert hasattr(database, "_get_stale_trial_ids"), "RDBStorage._get_stale_trial_ids moved: stale_trial_ids"
    assert private.stale_trial_ids(study, database) == []
    private.set_user_attr(study, frozen, "worker", "w1")
    assert study.trials[0].user_attrs == {"worker": "w1"}, "an attribute that the storage sets is not the trial's"
    private.set_constraint(study, frozen, "val/loss max", 0.5)
    kept = study.trials[0].constraints
    assert kept == {"val/loss max": 0.5}, "Optuna keeps constraints under another name than CONSTRAINT: set_constraint"


def test_hydra_composes_over_several_folders_of_which_the_first_wins(tmp_path: Path) -> None:
    for module, name in (("hydra", "Hydra"), ("utils", "create_config_search_path")):
        where = importlib.import_module(f"hydra._internal.{module}")
        assert hasattr(where, name), f"hydra._internal.{module}.{name} moved: config/hydra_private.py searching"
    import hydra

    from pipeline.config.hydra_private import hydra_search_path, node_path

    for folder, value in (("own", 1), ("shipped", 2)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "train.yaml").write_text(f"outer: {{inner: {{value: {value}}}}}\n")
    with hydra_search_path([tmp_path / "own", tmp_path / "shipped"]):
        config = hydra.compose("train")
    assert config.outer.inner.value == 1, "Hydra looks first in another folder: config/hydra_private.py searching"
    assert node_path(config.outer.inner) == "outer.inner", "OmegaConf tells a path in another way: path_of"


def test_lightning_counts_steps_and_keeps_progress_as_the_learner_expects() -> None:
    import pytorch_lightning as pl
    import torch
    from pytorch_lightning.core.optimizer import LightningOptimizer
    from torch import nn
    from torch.optim import SGD

    optimizer = LightningOptimizer(SGD([nn.Parameter(torch.zeros(1))], lr=1.0))
    for name in ("_on_before_step", "_on_after_step"):
        assert callable(getattr(optimizer, name, None)), (
            f"LightningOptimizer.{name} moved: training/lightning_private.py"
        )
    from pipeline.training.lightning_private import rewind_to_epoch_start, tell_monitors

    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    tell_monitors(trainer, {"val/loss": 0.25})
    told = trainer.callback_metrics.get("val/loss")
    assert told is not None, "Trainer.callback_metrics hands out a copy: training/lightning_private.py tell_monitors"
    loops: Any = {"fit_loop": trainer.fit_loop.state_dict()}
    counts = loops["fit_loop"]["epoch_progress"]["current"].keys()
    assert {"ready", "processed"} <= counts, "a checkpoint names Lightning's progress in another way: rewind_to_epoch"
    assert any(key.endswith("batch_progress") for key in loops["fit_loop"]), "the same of batches: rewind_to_epoch"
    rewind_to_epoch_start({"loops": loops})


def test_torch_has_what_averages_batch_norm_collectives_and_schedules_need() -> None:
    import torch
    from torch import nn

    from pipeline.training import torch_private as private

    averages, weights = (torch.zeros(2),), (torch.ones(2),)
    assert hasattr(torch, "_foreach_lerp_"), "torch._foreach_lerp_ moved: training/torch_private.py lerp_all"
    private.lerp_all(averages, weights, 0.25)
    assert averages[0].tolist() == [0.25, 0.25]
    assert hasattr(torch, "_batch_norm_impl_index"), "torch._batch_norm_impl_index moved: torch_private.py batch_norm"
    values = torch.randn(4, 3)
    normed = private.batch_norm(values, None, None, None, None, True, 0.1, 1e-5, False)
    assert torch.equal(normed, nn.functional.batch_norm(values, None, None, training=True))
    counter = "_get_sequence_number_for_group"
    assert hasattr(torch.distributed.ProcessGroup, counter), f"ProcessGroup.{counter} moved: collectives_of"
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    state = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1.0, total_steps=7).state_dict()
    private.forget_length(state)
    assert 7 not in state.values() and 6 not in str(state).split(), (
        "OneCycleLR keeps its length elsewhere: forget_length"
    )


def test_mlflow_keeps_its_migrations_where_the_newest_schema_is_read_from(tmp_path: Path) -> None:
    """No private name, but a layout and a module that no documentation promises."""
    from pipeline.tracking.mlflow import sqlite_store

    database = tmp_path / "mlflow.db"
    sqlite_store.create_if_missing(database, str(tmp_path / "files"))
    with closing(sqlite3.connect(database)) as connection:
        (revision,) = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    newest = sqlite_store._newest_revision()
    assert newest == revision, (
        "MLflow keeps its migrations elsewhere, or writes them in another way: tracking/mlflow/sqlite_store.py"
    )


@pytest.mark.parametrize(
    "owner, name, where",
    [
        (atexit, "_run_exitfuncs", "system/process.py end"),
        (pickle, "_Unpickler", "runs/checkpoint_progress.py"),
    ],
)
def test_python_has_the_private_names_that_are_used_of_it(owner: Any, name: str, where: str) -> None:
    assert callable(getattr(owner, name, None)), (
        f"{inspect.getmodulename(owner.__file__ or name)}.{name} moved: {where}"
    )
