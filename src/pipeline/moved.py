"""Modules and names that have moved: what holds an old name (configurations, users' own code) goes on working."""

import sys
import warnings
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder
from types import CodeType, ModuleType
from typing import Any

# Old name: new one, of a module or of something in a module. Names stay in this table as long as runs may hold them.
MOVED = {
    "pipeline.data.source.Cut": "pipeline.data.dataset.SplitSpec",
    "pipeline.data.source.Part": "pipeline.data.dataset.Split",
    "pipeline.data.source.Parts": "pipeline.data.dataset.Splits",
    "pipeline.data.source.Source": "pipeline.data.dataset.DataSource",
    "pipeline.data.source.check_label_sets": "pipeline.data.targets.check_multilabel_targets",
    "pipeline.data.source.check_labels": "pipeline.data.targets.check_class_labels",
    "pipeline.data.source.check_numbers": "pipeline.data.targets.check_regression_targets",
    "pipeline.data.splits.cut": "pipeline.data.splitting.split_rows",
    "pipeline.data.stored.Stored": "pipeline.data.on_disk.OnDiskTensor",
    "pipeline.data.copies.warn_of_copies": "pipeline.data.duplicates.warn_of_duplicates",
    "pipeline.data.copies.without_copies": "pipeline.data.duplicates.drop_duplicates",
    "pipeline.data.skipping.left_out": "pipeline.data.bad_samples.skip_or_fail",
    "pipeline.data.idx.parse": "pipeline.data.datasets.mnist.parse_idx",
    "pipeline.data.labelled_files.Kind": "pipeline.data.files.labelled_files.FileKind",
    "pipeline.data.description.describe": "pipeline.data.data_spec.build_data_spec",
    "pipeline.data.statistics.describe": "pipeline.data.data_spec.build_data_spec",
    "pipeline.data.targets.check_numbers": "pipeline.data.targets.check_regression_targets",
    "pipeline.data.targets.check_labels": "pipeline.data.targets.check_class_labels",
    "pipeline.data.targets.check_label_sets": "pipeline.data.targets.check_multilabel_targets",
    "pipeline.data.splitting.one_against_rest": "pipeline.data.splitting.one_vs_rest",
    "pipeline.data.splitting.fraction_of": "pipeline.data.splitting.stratified_fraction",
    "pipeline.data.splitting.fold_of": "pipeline.data.splitting.cross_validation_fold",
    "pipeline.data.duplicates.without_duplicates": "pipeline.data.duplicates.drop_duplicates",
    "pipeline.data.datasets.scikit_learn.Labelled": "pipeline.data.datasets.scikit_learn.LabelledTable",
    "pipeline.data.datasets.scikit_learn.OneAgainstRest": "pipeline.data.datasets.scikit_learn.OneVsRestTable",
    "pipeline.data.datasets.published_files.File": "pipeline.data.datasets.published_files.PublishedFile",
    "pipeline.data.datasets.published_files.read_folder": "pipeline.data.datasets.published_files.read_published_files",
    "pipeline.data.text.text_table.encoded": "pipeline.data.text.text_table.tokenize_splits",
    "pipeline.data.text.tokenizer.encode": "pipeline.data.text.tokenizer.encode_sentences",
    "pipeline.models.layers.activation.activation": "pipeline.models.layers.activation.make_activation",
    "pipeline.models.layers.input_checks.embedding": "pipeline.models.layers.input_checks.token_embedding",
    "pipeline.models.layers.input_checks.mean_of_present": "pipeline.models.layers.input_checks.masked_mean",
    "pipeline.models.layers.input_checks.package": "pipeline.models.layers.input_checks.import_optional",
    "pipeline.models.network.seen_by_model": "pipeline.models.network.spec_for_model",
    "pipeline.models.cnn.block": "pipeline.models.cnn.conv_block",
    "pipeline.models.resnet.Block": "pipeline.models.resnet.ResidualBlock",
    "pipeline.models.transformer.Block": "pipeline.models.transformer.EncoderBlock",
    "pipeline.data.statistics": "pipeline.data.data_spec",
    "pipeline.data.files.images": "pipeline.data.files.image_folder",
    "pipeline.data.files.audio": "pipeline.data.files.audio_folder",
    "pipeline.data.source": "pipeline.data.dataset",
    "pipeline.data.loading": "pipeline.data.loader",
    "pipeline.data.tuples": "pipeline.data.loader",
    "pipeline.data.splits": "pipeline.data.splitting",
    "pipeline.data.description": "pipeline.data.data_spec",
    "pipeline.data.copies": "pipeline.data.duplicates",
    "pipeline.data.stored": "pipeline.data.on_disk",
    "pipeline.data.skipping": "pipeline.data.bad_samples",
    "pipeline.data.label_sets": "pipeline.data.targets",
    "pipeline.data.mnist": "pipeline.data.datasets.mnist",
    "pipeline.data.idx": "pipeline.data.datasets.mnist",
    "pipeline.data.cifar10": "pipeline.data.datasets.cifar10",
    "pipeline.data.california_housing": "pipeline.data.datasets.california_housing",
    "pipeline.data.scikit_learn": "pipeline.data.datasets.scikit_learn",
    "pipeline.data.spoken_digits": "pipeline.data.datasets.spoken_digits",
    "pipeline.data.archive": "pipeline.data.datasets.published_files",
    "pipeline.data.folder": "pipeline.data.datasets.published_files",
    "pipeline.data.image_folder": "pipeline.data.files.image_folder",
    "pipeline.data.audio_folder": "pipeline.data.files.audio_folder",
    "pipeline.data.image_cache": "pipeline.data.files.image_folder",
    "pipeline.data.sound_files": "pipeline.data.files.audio_folder",
    "pipeline.data.mapped_cache": "pipeline.data.files.cache",
    "pipeline.data.labelled_files": "pipeline.data.files.labelled_files",
    "pipeline.data.name_pattern": "pipeline.data.files.labelled_files",
    "pipeline.data.selection": "pipeline.data.files.build_splits",
    "pipeline.data.table": "pipeline.data.tables.table",
    "pipeline.data.table_files": "pipeline.data.tables.table_files",
    "pipeline.data.table_reading": "pipeline.data.tables.raw_table",
    "pipeline.data.raw_table": "pipeline.data.tables.raw_table",
    "pipeline.data.columns": "pipeline.data.tables.columns",
    "pipeline.data.dates": "pipeline.data.tables.columns",
    "pipeline.data.encoders": "pipeline.data.tables.encoding",
    "pipeline.data.encoding": "pipeline.data.tables.encoding",
    "pipeline.data.text_table": "pipeline.data.text.text_table",
    "pipeline.data.text_rows": "pipeline.data.text.text_rows",
    "pipeline.data.tokenizer": "pipeline.data.text.tokenizer",
    "pipeline.launch.job": "pipeline.launch.job_record",
    "pipeline.launch.parent": "pipeline.launch.job_record",
    "pipeline.launch.launcher_process": "pipeline.launch.job_record",
    "pipeline.launch.stacks": "pipeline.launch.failure_detection",
    "pipeline.launch.units": "pipeline.durations",
    "pipeline.launch.watch": "pipeline.launch.failure_detection",
    "pipeline.launch.asked": "pipeline.launch.launcher",
    "pipeline.launch.activity": "pipeline.launch.failure_detection",
    "pipeline.launch.trainjob_check": "pipeline.launch.trainjob",
    "pipeline.training.callbacks.mixing.OfPairs": "pipeline.training.callbacks.mixup_cutmix.PairedTransform",
    "pipeline.training.callbacks.transform.own": "pipeline.training.callbacks.hooks.local_rows",
    "pipeline.training.callbacks.averaging.Averaging": "pipeline.training.callbacks.averaging.WeightAveraging",
    "pipeline.training.callbacks.heartbeat.Heartbeat": "pipeline.training.callbacks.send_heartbeats.SendHeartbeats",
    "pipeline.training.callbacks.timing.Timing": "pipeline.training.callbacks.monitors.EpochTiming",
    "pipeline.training.callbacks.best.Best": "pipeline.training.callbacks.monitored_metric.BestScore",
    "pipeline.training.task.of_data": "pipeline.training.task.task_for_data",
    "pipeline.training.task.Perceptron": "pipeline.training.task.PerceptronTask",
    "pipeline.training.sharding.Sharded": "pipeline.training.distributed.sharding.ShardedStrategy",
    "pipeline.training.agreement.Agreement": "pipeline.training.distributed.periodic_max.PeriodicMax",
    "pipeline.training.optimizers.MakeOptimizer": "pipeline.training.optimizers.OptimizerFactory",
    "pipeline.training.checkpoints.save": "pipeline.training.checkpoints.save_checkpoint",
    "pipeline.training.checkpoints.load": "pipeline.training.checkpoints.load_checkpoint",
    "pipeline.training.callbacks.step": "pipeline.training.callbacks.hooks",
    "pipeline.training.callbacks.transform": "pipeline.training.callbacks.hooks",
    "pipeline.training.callbacks.timing": "pipeline.training.callbacks.monitors",
    "pipeline.training.callbacks.progress": "pipeline.training.callbacks.progress_bar",
    "pipeline.training.callbacks.monitoring": "pipeline.training.callbacks.monitored_metric",
    "pipeline.training.stepping": "pipeline.training.engine",
    "pipeline.training.collectives": "pipeline.training.distributed.collectives",
    "pipeline.training.meeting": "pipeline.training.distributed.rendezvous",
    "pipeline.training.global_batch": "pipeline.training.distributed.global_batch",
    "pipeline.training.batch_norm": "pipeline.training.distributed.batch_norm",
    "pipeline.training.sharding": "pipeline.training.distributed.sharding",
    "pipeline.training.randomness": "pipeline.training.distributed.global_batch",
    "pipeline.training.multilabel": "pipeline.training.task",
    "pipeline.training.class_weights": "pipeline.training.task",
    "pipeline.training.defined": "pipeline.training.task",
    "pipeline.training.running": "pipeline.training.evaluation",
    "pipeline.training.chunk": "pipeline.training.learner",
    "pipeline.training.memory": "pipeline.training.halving",
    "pipeline.training.machine": "pipeline.training.callbacks.monitors",
    "pipeline.training.precision": "pipeline.lifecycle.trainer",
    "pipeline.training.agreement": "pipeline.training.distributed.periodic_max",
    "pipeline.training.background": "pipeline.training.checkpoints",
    "pipeline.training.mixing": "pipeline.training.task",
    "pipeline.training.callbacks.augmentation": "pipeline.training.callbacks.image_augmentation",
    "pipeline.training.callbacks.rand_augment": "pipeline.training.callbacks.image_augmentation",
    "pipeline.training.callbacks.sound": "pipeline.training.callbacks.audio_augmentation",
    "pipeline.training.callbacks.columns": "pipeline.training.callbacks.tabular_augmentation",
    "pipeline.training.callbacks.token_dropout": "pipeline.training.callbacks.text_augmentation",
    "pipeline.training.callbacks.mixing": "pipeline.training.callbacks.mixup_cutmix",
    "pipeline.training.callbacks.heartbeat": "pipeline.training.callbacks.send_heartbeats",
    "pipeline.training.callbacks.learning_rate": "pipeline.training.callbacks.monitors",
    "pipeline.training.callbacks.gradient_norm": "pipeline.training.callbacks.monitors",
    "pipeline.training.callbacks.system_metrics": "pipeline.training.callbacks.monitors",
    "pipeline.training.callbacks.ema": "pipeline.training.callbacks.averaging",
    "pipeline.training.callbacks.swa": "pipeline.training.callbacks.averaging",
    "pipeline.training.callbacks.best": "pipeline.training.callbacks.monitored_metric",
    "pipeline.models.initialization": "pipeline.models.layers.initialization",
    "pipeline.models.activation": "pipeline.models.layers.activation",
    "pipeline.models.categories": "pipeline.models.layers.categories",
    "pipeline.models.log_mel": "pipeline.models.layers.log_mel",
    "pipeline.models.images": "pipeline.models.layers.input_checks",
    "pipeline.models.tokens": "pipeline.models.layers.input_checks",
    "pipeline.models.optional": "pipeline.models.layers.input_checks",
    "pipeline.config.resolve": "pipeline.config.instantiate",
    "pipeline.config.check": "pipeline.config.checks.check_config",
    "pipeline.config.checks.check_config.check": "pipeline.config.checks.check_config.check_config",
    "pipeline.files": "pipeline.system.files",
    "pipeline.output": "pipeline.system.streams",
    "pipeline.process": "pipeline.system.process",
    "pipeline.download": "pipeline.system.download",
    "pipeline.lifecycle.rank": "pipeline.lifecycle.training_process",
    "pipeline.lifecycle.run": "pipeline.runs.run_directory",
    "pipeline.search.array": "pipeline.search.session",
    "pipeline.search.job_array": "pipeline.search.session",
}


def current_name(dotted: str) -> str:
    """Return the name by which `dotted` goes today: the longest old name that it begins with is replaced."""
    parts = dotted.split(".")
    for count in range(len(parts), 0, -1):
        new = MOVED.get(".".join(parts[:count]))
        if new is not None:
            return current_name(".".join([new, *parts[count:]]))
    return dotted


class MovedModuleFinder:
    """A finder of modules, for sys.meta_path: `from pipeline.old import Name` takes Name from where it is now."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        return ModuleSpec(name, MovedModuleFinder()) if current_name(name) != name else None  # type: ignore[arg-type]

    @staticmethod
    def create_module(spec: ModuleSpec) -> None:
        """Leave it to Python."""

    @staticmethod
    def exec_module(module: ModuleType) -> None:
        module.__dict__["__getattr__"] = lambda name: _moved(f"{module.__name__}.{name}")

    @staticmethod
    def get_code(name: str) -> CodeType:
        """Return what `python -m OLD_NAME` runs, as the script of a job does that waited in a queue meanwhile."""
        return compile(f"import runpy\nrunpy.run_module({current_name(name)!r}, run_name='__main__')", name, "exec")


class OldNames:
    """A finder for modules that are where they were, with old names in them: `from pipeline.module import Old`."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if not name.startswith("pipeline.") or name not in {old.rpartition(".")[0] for old in MOVED}:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                run(module)
                module.__dict__["__getattr__"] = lambda name: _moved(f"{module.__name__}.{name}")

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def _moved(dotted: str) -> Any:
    new = current_name(dotted)
    place, _, name = new.rpartition(".")
    if name.startswith("__") or new == dotted:  # what Python asks a module for, or a name that never was
        raise AttributeError(f"module {place!r} has no attribute {name!r}")
    found = getattr(import_module(place), name)
    warnings.warn(f"{dotted} is now {new}", DeprecationWarning, stacklevel=3)
    return found


def install_finder() -> None:
    if MovedModuleFinder not in sys.meta_path:
        sys.meta_path.insert(0, OldNames)
        sys.meta_path.append(MovedModuleFinder)  # last: it is asked only for what is nowhere else
