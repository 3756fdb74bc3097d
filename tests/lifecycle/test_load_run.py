"""A run that goes on, or is looked at: what it learned of its data when it began still holds."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from pipeline.lifecycle.load_run import with_saved_tokenizer
from pipeline.runs.run_directory import Run


@pytest.mark.parametrize("kind, is_taken", [("words", True), ("bpe", True), ("/models/bert/tokenizer.json", False)])
def test_a_run_keeps_the_tokenizer_that_it_began_with(kind: str, is_taken: bool, tmp_path: Path) -> None:
    config = OmegaConf.create({"data": {"source": {"tokenizer": {"kind": kind}}}})
    run = Run(tmp_path)
    assert with_saved_tokenizer(run, config).data.source.tokenizer.kind == kind, "it has not begun"
    (tmp_path / "tokenizer.json").write_text("{}")
    expected = str(tmp_path / "tokenizer.json") if is_taken else kind
    assert with_saved_tokenizer(run, config).data.source.tokenizer.kind == expected
    assert config.data.source.tokenizer.kind == kind, "what is recorded of the run stays"


def test_data_without_a_tokenizer_is_taken_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    config = OmegaConf.create({"data": {"_target_": "mine.Data"}})
    assert with_saved_tokenizer(Run(tmp_path), config) == config
