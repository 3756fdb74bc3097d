"""Whose code a configuration may call, and who may say so."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from pipeline.config.checks.check_config import check_config
from pipeline.config.compose import compose
from pipeline.config.instantiate import instantiate
from pipeline.errors import ConfigError

# Each is found in a package of which a configuration may name the classes, or by way of it.
HOSTILE = (
    # starts a process, or imports what it is told
    "pipeline.launch.torchrun._run",
    "pipeline.launch.kubernetes.kubectl",
    "pipeline.launch.slurm.slurm_client",
    "pipeline.launch.local.subprocess.Popen",
    "pipeline.models.layers.activation.importlib.import_module",
    "kornia.core.external.LazyLoader",
    "torch.nn.attention._fa4._fa4_import_module",
    "torch.nn.modules.module.torch.hub.load",
    # loads a pickle, or code
    "torch.load",
    "torch.hub.load",
    "torch.hub.load_state_dict_from_url",
    "torch.jit.load",
    "torch.package.PackageImporter",
    "torch.utils.cpp_extension.load_inline",
    "torch.utils.data.datapipes.utils.decoder.pickle.loads",
    "torch.nn.modules.module.torch.load",
    "torch.optim.swa_utils.torch.jit.load",
    "torch.nn.modules.rnn.warnings.sys.modules.clear",
    "pipeline.training.checkpoints.load_checkpoint",
    "pipeline.training.checkpoints.torch.load",
    "pytorch_lightning.LightningModule.load_from_checkpoint",
    "pytorch_lightning.LightningDataModule.load_from_checkpoint",
    "pytorch_lightning.callbacks.model_checkpoint.torch.load",
    "pytorch_lightning.trainer.trainer.Trainer.fit",
    "numpy.load",
    "pandas.read_pickle",
    "joblib.load",
    "sympy.sympify",
    "yaml.unsafe_load",
    "cloudpickle.loads",
    # calls what it is told
    "builtins.eval",
    "builtins.exec",
    "builtins.getattr",
    "functools.partial",
    "functools.reduce",
    "operator.methodcaller",
    "hydra.utils.get_method",
    "hydra.utils.get_object",
    "hydra.utils.instantiate",
    "hydra.utils.call",
    "pydoc.locate",
    "importlib.import_module",
    "runpy.run_path",
    "timeit.timeit",
    "pipeline.config.instantiate.instantiate",
    "pipeline.system.process.exit_without_teardown",
    "pipeline.lifecycle.training_process.run_training_process",
    "torch.nn.Module.__init__.__globals__.get",
    "torch.nn.Module.__class__",
    "torch.nn.Module.__subclasses__",
    # runs a command, writes, fetches
    "os.system",
    "subprocess.run",
    "torch.os.system",
    "torch.nn.os.system",
    "shutil.rmtree",
    "pathlib.Path.write_text",
    "pipeline.system.files.write_atomically",
    "pipeline.training.checkpoints.save_checkpoint",
    "pipeline.data.files.cache.shutil.rmtree",
    "kornia.core.download_file_from_url",
    "kornia.core.download.download_file_from_url",
    "kornia.augmentation.RandomDissolving",
    "kornia.contrib.RRDBNetBuilder",
    "kornia.feature.HardNet",
    "kornia.filters.DexiNed",
    "kornia.io.load_image",
    "torchmetrics.text.BERTScore",
    "torchmetrics.text.bert.BERTScore",
    "torchmetrics.multimodal.CLIPScore",
    "torchmetrics.functional.text.bert.bert_score",
    "torchmetrics.image.FrechetInceptionDistance",
    "transformers.AutoModel.from_pretrained",
    "timm.create_model",
    "mlflow.pytorch.load_model",
    "optuna.load_study",
    "optuna.samplers.TPESampler.__init__.__globals__",
)
HARMLESS = (
    "torch.nn.GELU",
    "torch.nn.Linear",
    "torch.nn.functional.relu",
    "torch.nn.init.xavier_uniform_",
    "torch.optim.RMSprop",
    "torch.optim.Muon",
    "torch.optim.lr_scheduler.StepLR",
    "pytorch_lightning.callbacks.Timer",
    "pytorch_lightning.Trainer",
    "torchmetrics.Accuracy",
    "torchmetrics.MeanMetric",
    "torchmetrics.classification.MulticlassF1Score",
    "kornia.augmentation.RandomAffine",
    "optuna.samplers.GPSampler",
    "pipeline.training.optimizers.adamw",
    "pipeline.training.task.task_for_data",
)


def is_accepted(*overrides: str) -> None:
    composed = compose(overrides)
    check_config(composed.config, composed.shipped)


def refusal(*overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        is_accepted(*overrides)
    return str(caught.value)


@pytest.mark.parametrize("target", HOSTILE)
def test_nothing_is_called_that_does_more_than_it_says(target: str) -> None:
    config = OmegaConf.create({"node": {"_target_": target, "_partial_": True}})
    for node in (config.node, OmegaConf.create([config.node]), OmegaConf.create({"x": config.node})):
        with pytest.raises(ConfigError, match=r"may call|cannot be imported"):
            instantiate(node, config)


@pytest.mark.parametrize("target", HARMLESS)
def test_what_a_network_is_made_of_is_called(target: str) -> None:
    config = OmegaConf.create({"node": {"_target_": target, "_partial_": True}})
    assert callable(instantiate(config.node, config))


@pytest.mark.parametrize(
    "text", ["${evil}", "${oc.create:'{_target_: os.system, _partial_: true}'}", "${oc.dict.values:evils}"]
)
def test_what_an_interpolation_brings_is_held_to_the_same_list(text: str) -> None:
    evil = {"_target_": "os.system", "_partial_": True}
    node = {"_target_": "torch.nn.ModuleList", "modules": text}
    config = OmegaConf.create({"evil": evil, "evils": {"a": evil}, "node": node})
    with pytest.raises(ConfigError, match="may call"):
        instantiate(config.node, config)


@pytest.mark.parametrize("target", ["pipeline.launch.kubernetes.kubectl",
                                    "pipeline.training.checkpoints.load_checkpoint",
                                    "kornia.core.external.LazyLoader", "torchmetrics.text.bert.BERTScore"])  # fmt: skip
def test_it_is_refused_before_anything_is_imported(target: str) -> None:
    assert "is not in a package that a configuration may call" in refusal(f"+callbacks.x={{_target_: {target}}}")


class TestWhoAllows:
    """A list that stands in what it guards would guard nothing."""

    @pytest.fixture(autouse=True)
    def recipe(self, elsewhere: Path) -> Path:
        path = elsewhere / "conf/experiment/evil.yaml"
        path.parent.mkdir(parents=True)
        path.write_text(
            "# @package _global_\nallow_packages: [sympy]\ncallbacks: {x: {_target_: sympy.sympify, a: '1'}}\n"
        )
        return path

    def test_a_recipe_cannot_allow_its_own_code(self, recipe: Path) -> None:
        said = refusal("experiment=evil")
        assert said.startswith(f"{recipe} allows its own packages, sympy,")
        assert "'allow_packages=[sympy]'" in said
        assert "write  allow_packages: [sympy]  to conf/allow_packages.yaml" in said

    def test_also_not_where_it_is_typed_as_well_or_one_of_several(self, recipe: Path) -> None:
        assert "allows its own packages" in refusal("experiment=evil", "allow_packages=[sympy]")
        assert "allows its own packages" in refusal("experiment=[mnist5k,evil]")

    @pytest.mark.parametrize("name", ["data/mine.yaml", "model/mine.yaml", "remedy/mine.yaml"])
    def test_no_option_can(self, elsewhere: Path, name: str) -> None:
        path = elsewhere / "conf" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("# @package _global_\nallow_packages: [sympy]\n")
        assert f"{path} allows its own packages, sympy" in refusal(f"{path.parent.name}=mine")

    def test_nor_can_a_file_that_an_option_includes(self, elsewhere: Path) -> None:
        (elsewhere / "conf/_shared.yaml").write_text("allow_packages: [sympy]\n")
        (elsewhere / "conf/experiment/mine.yaml").write_text("# @package _global_\ndefaults: [/_shared@_global_]\n")
        assert "allows its own packages, sympy" in refusal("experiment=mine")

    def test_nor_can_another_primary_configuration(self, elsewhere: Path) -> None:
        (elsewhere / "conf/mine.yaml").write_text("defaults: [train, _self_]\nallow_packages: [sympy]\n")
        with pytest.raises(ConfigError, match=r"allows its own packages, sympy"):
            compose([], config_name="mine")

    def test_nor_can_a_folder_of_options_that_is_typed(self, elsewhere: Path) -> None:
        (elsewhere / "more").mkdir()
        (elsewhere / "more/allow_packages.yaml").write_text("allow_packages: [sympy]\n")
        assert list(compose([], config_dirs=[str(elsewhere / "more")]).config.allow_packages) == []

    def test_the_users_own_file_can(self, elsewhere: Path, recipe: Path) -> None:
        (elsewhere / "conf/allow_packages.yaml").write_text("allow_packages: [sympy]\n")
        composed = compose(["experiment=evil", "allow_packages=[torch]"])
        assert list(composed.config.allow_packages) == ["sympy", "torch"]
        check_config(composed.config, composed.shipped)

    @pytest.mark.parametrize("content", ["", "allow_packages: [sympy]\nseed: 3\n", "[sympy]\n", "seed: 3\n", "a: ["])
    def test_which_holds_nothing_else(self, elsewhere: Path, content: str) -> None:
        (elsewhere / "conf/allow_packages.yaml").write_text(content)
        assert "conf/allow_packages.yaml: expected one line and nothing else" in refusal()

    @pytest.mark.parametrize("content", ["sympy", "[my.package]", "[3]", "{a: b}"])
    def test_as_a_list_of_packages(self, elsewhere: Path, content: str) -> None:
        (elsewhere / "conf/allow_packages.yaml").write_text(f"allow_packages: {content}\n")
        assert "expected a list of top-level packages" in refusal()
