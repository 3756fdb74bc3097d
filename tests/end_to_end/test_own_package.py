"""What a user brings along in a package of their own, beside the place where they type the command."""

from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from pipeline.tracking.journal import metric_history

PACKAGE = {
    "__init__.py": "",
    "source.py": """
        import torch
        from pipeline.data.dataset import Split, Splits

        class Stripes:
            '''Noise with a bright row for class 0, a bright column for class 1.'''
            def __init__(self, *, size: int) -> None:
                self.size = size

            def load(self, root):
                generator = torch.Generator().manual_seed(0)
                def part(count):
                    images = torch.randint(0, 100, (count, 1, self.size, self.size), generator=generator)
                    targets = torch.arange(count) % 2
                    images[targets == 0, :, 2] += 150
                    images[targets == 1, :, :, 2] += 150
                    return Split(images.to(torch.uint8), targets)
                return Splits(name="stripes", kind="image", task="multiclass", class_names=("row", "column"),
                             train=part(320), validation=part(64), test=part(96))
    """,
    "data.py": """
        import torch
        import pytorch_lightning as pl
        from pipeline.data.data_spec import build_data_spec
        from my_package.source import Stripes

        class Plain(pl.LightningDataModule):
            '''Ordinary DataLoaders; tells nothing about itself.'''
            def __init__(self, batch_size: int) -> None:
                super().__init__()
                self.batch_size = batch_size
                self.parts = Stripes(size=8).load(None)

            def _loader(self, part, shuffle=False):
                data = torch.utils.data.TensorDataset(part.inputs, part.targets)
                return torch.utils.data.DataLoader(data, self.batch_size, shuffle=shuffle)

            def train_dataloader(self):
                return self._loader(self.parts.train, shuffle=True)

            def val_dataloader(self):
                return self._loader(self.parts.validation)

            def test_dataloader(self):
                return self._loader(self.parts.test)

        class Described(Plain):
            '''The same, and says what it is.'''
            @property
            def spec(self):
                return build_data_spec(self.parts)
    """,
    "models.py": """
        import torch
        import pytorch_lightning as pl
        from torch import nn
        from pipeline.spec import DataSpec

        class Net(nn.Module):
            def __init__(self, *, spec: DataSpec, width: int) -> None:
                super().__init__()
                c, h, w = spec.input_shape
                self.layers = nn.Sequential(
                    nn.Flatten(), nn.Linear(c * h * w, width), nn.ReLU(), nn.Linear(width, spec.num_classes)
                )

            def forward(self, x):
                return self.layers(x)

        class Module(pl.LightningModule):
            '''As in Lightning's own first example: batches are (inputs, targets).'''
            def __init__(self, width: int = 16, learning_rate: float = 0.01) -> None:
                super().__init__()
                self.save_hyperparameters()
                self.layers = nn.Sequential(nn.Flatten(), nn.LazyLinear(width), nn.ReLU(), nn.Linear(width, 2))
                self.layers(torch.zeros(2, 1, 8, 8))

            def _step(self, batch, name):
                x, y = batch
                assert isinstance(x, torch.Tensor) and x.dtype == torch.uint8, type(x)
                scores = self.layers(x.float() / 255)
                loss = nn.functional.cross_entropy(scores, y)
                self.log(f"{name}/loss", loss)
                self.log(f"{name}/accuracy", (scores.argmax(1) == y).float().mean())
                return loss

            def training_step(self, batch, batch_idx):
                return self._step(batch, "train")

            def validation_step(self, batch, batch_idx):
                self._step(batch, "val")

            def test_step(self, batch, batch_idx):
                self._step(batch, "test")

            def configure_optimizers(self):
                return torch.optim.Adam(self.parameters(), lr=self.hparams.learning_rate)
    """,
    "callbacks.py": """
        from pathlib import Path
        import pytorch_lightning as pl

        class Diary(pl.Callback):
            def __init__(self, path: str) -> None:
                self.path = path

            def on_train_epoch_end(self, trainer, pl_module):
                with Path(self.path).open("a") as file:
                    file.write(f"epoch {trainer.current_epoch}\\n")
    """,
}
# Their options, in the conf/ that is looked for in the working directory.
OPTIONS = {
    "data/stripes.yaml": """
        defaults: [_image]
        source: {_target_: my_package.source.Stripes, size: 8}
        batch_size: 32
    """,
    "data/plain.yaml": "{_target_: my_package.data.Plain, batch_size: 32}",
    "data/described.yaml": "{_target_: my_package.data.Described, batch_size: 32}",
    "model/net.yaml": "{_target_: my_package.models.Net, width: 16}",
    "model/module.yaml": "{_target_: my_package.models.Module, width: 16, learning_rate: 0.01}",
    "callbacks/diary.yaml": "diary: {_target_: my_package.callbacks.Diary, path: diary.txt}",
}
ALLOWED = "allow_packages=[my_package]"
OFTEN = "trainer.log_every_n_steps=5"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    for folder, files in (("my_package", PACKAGE), ("conf", OPTIONS)):
        for name, content in files.items():
            path = tmp_path / "home" / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(dedent(content).lstrip())
    return tmp_path / "home"


def check_finished(program: Any, home: Path, ended: Any) -> Path:
    assert ended.code == 0, ended.err
    assert ended.err == ""
    run_dir: Path = program.only_run(home)
    result = program.result(run_dir)
    assert result["status"] == "FINISHED"
    assert result["metrics"]["test/accuracy"] > 0.9
    curves = metric_history(run_dir / "journal.jsonl")
    assert {"train/loss", "val/loss", "val/accuracy", "test/accuracy"} <= curves.keys()
    assert (run_dir / "figures/learning_curves.svg").exists()
    return run_dir


def test_a_network_a_source_and_a_callback_train_and_resume(program: Any, home: Path) -> None:
    arguments = (ALLOWED, "data=stripes", "model=net", "callbacks=[default,diary]", "tracking=none")
    ended = program.run(home, "train", *arguments, "trainer.max_epochs=4")
    check_finished(program, home, ended)
    assert (home / "diary.txt").read_text() == "epoch 0\nepoch 1\nepoch 2\nepoch 3\n"
    assert "stripes: 320 train" in ended.out and "Net, 1,074 parameters" in ended.out
    resumed = program.run(home, "resume", "trainer.max_epochs=5")
    check_finished(program, home, resumed)
    assert (home / "diary.txt").read_text().endswith("epoch 3\nepoch 4\n")
    for verb in ("evaluate", "resume"):
        refused = program.run(home, verb, XDG_STATE_HOME=str(home / "of another user"))
        assert refused.code == 2 and f"to allow it  '{ALLOWED}'" in refused.err


@pytest.mark.slow
def test_a_lightning_module_on_our_data_gets_inputs_and_targets_and_resumes(program: Any, home: Path) -> None:
    arguments = (ALLOWED, "data=stripes", "model=module", OFTEN, "tracking=none")
    ended = program.run(home, "train", *arguments, "trainer.max_epochs=4")
    check_finished(program, home, ended)
    resumed = program.run(home, "resume", "trainer.max_epochs=5")
    run_dir = check_finished(program, home, resumed)
    assert len(metric_history(run_dir / "journal.jsonl")["val/loss"]) == 5


def test_a_lightning_module_on_its_own_data_module_is_judged_again(program: Any, home: Path) -> None:
    arguments = (ALLOWED, "data=plain", "model=module", "callbacks=none", OFTEN, "tracking=none")
    ended = program.run(home, "train", *arguments, "trainer.max_epochs=4")
    run_dir = check_finished(program, home, ended)
    evaluated = program.run(home, "evaluate")
    assert evaluated.code == 0, evaluated.err
    assert f"{program.result(run_dir)['metrics']['test/accuracy']:.4f}" in evaluated.out


@pytest.mark.slow
def test_our_learner_on_a_data_module_that_describes_itself(program: Any, home: Path) -> None:
    arguments = ("data=described", "model=softmax_regression", "optimizer.learning_rate=0.05", "tracking=none")
    check_finished(program, home, program.run(home, "train", ALLOWED, *arguments, "trainer.max_epochs=6"))


@pytest.mark.slow
def test_our_learner_on_a_data_module_that_tells_nothing_is_refused(program: Any, home: Path) -> None:
    ended = program.run(home, "train", ALLOWED, "data=plain", "model=net", "tracking=none")
    assert ended.code == 2
    assert "has no `spec`" in ended.err and "pipeline.spec.DataSpec" in ended.err
    assert program.runs_in(home) == []


def test_augmentation_that_a_module_of_ones_own_would_never_see_is_refused(program: Any, home: Path) -> None:
    arguments = (ALLOWED, "data=stripes", "model=module", "callbacks=[default,augmentation]", "tracking=none")
    ended = program.run(home, "train", *arguments)
    assert ended.code == 2
    assert "Augmentation changes batches" in ended.err and "~callbacks.augmentation" in ended.err
    assert program.runs_in(home) == []


def test_a_package_that_is_not_allowed_is_refused_with_what_to_type(program: Any, home: Path) -> None:
    ended = program.run(home, "train", "model=net")
    assert ended.code == 2
    assert ALLOWED in ended.err
