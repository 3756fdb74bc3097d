"""Old names go on working: in configurations, in runs, in users' own code."""

import importlib
import json
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from pipeline import moved
from pipeline.config import compose
from pipeline.config.checks.check_config import check_config

OWN_DATA = """\
from pipeline.data.source import Cut, Part, Parts
from pipeline.data.datamodule import DataModule
"""


@pytest.mark.parametrize("new", moved.MOVED.values())
def test_every_new_name_can_be_imported_as_the_configuration_check_finds_it(new: str) -> None:
    from pipeline.config.static import lookup

    assert moved.current_name(new) == new
    assert lookup.find_entity(new) is not None


def test_what_has_not_moved_keeps_its_name() -> None:
    for name in ("torch.optim.AdamW", "my_package.data.table.Table", "pipeline.data.datamodule.DataModule"):
        assert moved.current_name(name) == name


def test_a_configuration_with_an_old_name_is_composed_and_checked_as_with_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "conf/data").mkdir(parents=True)
    shipped = (Path(__file__).parents[1] / "conf/data/text_table.yaml").read_text()
    for old in ("text_table.TextTable", "tokenizer.Tokenization"):
        shipped = shipped.replace(f"pipeline.data.text.{old}", f"pipeline.data.{old}")
    (tmp_path / "conf/data/mine.yaml").write_text(shipped)
    monkeypatch.chdir(tmp_path)
    composed = compose.compose(["data=mine", "data.root=.", "model=ngrams"])
    check_config(composed.config, composed.shipped)
    source = composed.config.data.source
    assert source._target_ == "pipeline.data.text.text_table.TextTable"
    assert source.tokenizer._target_ == "pipeline.data.text.tokenizer.Tokenization"
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1
    assert "pipeline.data.text_table.TextTable is now pipeline.data.text.text_table.TextTable" in told[0]


def test_a_frozen_configuration_with_an_old_name_is_read_with_the_new_one_and_stays_as_it_is(tmp_path: Path) -> None:
    composed = compose.compose(["data=iris", "model=mlp"])
    text = compose.to_yaml(composed.config).replace("pipeline.data.datasets.scikit_learn", "pipeline.data.scikit_learn")
    (tmp_path / "config.yaml").write_text(text)
    found = compose.load_frozen_config(tmp_path)
    assert found.data.source._target_ == "pipeline.data.datasets.scikit_learn.Iris"
    assert (tmp_path / "config.yaml").read_text() == text
    assert OmegaConf.to_container(found) == OmegaConf.to_container(composed.config)


def test_code_of_a_users_own_imports_by_old_names(tmp_path: Path) -> None:
    report = """
import importlib
import json
print(json.dumps([f"{one.__module__}.{one.__name__}" for one in (Cut, Part, Parts, DataModule)]))
"""
    done = subprocess.run(
        [sys.executable, "-c", f"# warm\nimport warnings\nwarnings.simplefilter('always')\n{OWN_DATA}{report}"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [
        "pipeline.data.dataset.SplitSpec",
        "pipeline.data.dataset.Split",
        "pipeline.data.dataset.Splits",
        "pipeline.data.datamodule.DataModule",
    ]
    assert "pipeline.data.source.Parts is now pipeline.data.dataset.Splits" in done.stderr


def test_an_old_name_in_a_module_that_stayed_where_it_was_leads_to_the_new_one() -> None:
    with pytest.warns(DeprecationWarning, match="text_table.encoded is now pipeline.data.text.text_table.tokenize"):
        from pipeline.data.text.text_table import encoded  # type: ignore[attr-defined]
    assert encoded.__name__ == "tokenize_splits"
    with pytest.raises(ImportError):
        from pipeline.data.text.text_table import encodes  # noqa: F401
    assert not hasattr(sys.modules["pipeline.data.text.text_table"], "encodes")


@pytest.mark.parametrize("module", ["pipeline.config.check", "pipeline.config.checks.check_config"])
def test_a_test_that_new_data_or_new_model_wrote_before_still_imports_the_check(module: str) -> None:
    with pytest.warns(DeprecationWarning, match="is now pipeline.config.checks.check_config.check_config"):
        check = importlib.import_module(module).check
    assert check is check_config


@pytest.mark.parametrize("old", ["pipeline.lifecycle.rank", "pipeline.search.array"])
def test_a_job_script_of_before_still_runs_its_module(old: str, tmp_path: Path) -> None:
    command = [sys.executable, "-P", "-m", old, str(tmp_path / "no-such-folder")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "No module named" not in done.stderr
    assert "no-such-folder" in done.stderr + done.stdout


def test_what_was_never_there_is_still_refused() -> None:
    with warnings.catch_warnings(), pytest.raises(ModuleNotFoundError):
        import pipeline.data.sourcery  # type: ignore[import-not-found]  # noqa: F401
    with pytest.raises(ImportError):
        from pipeline.data.source import Partz  # noqa: F401
