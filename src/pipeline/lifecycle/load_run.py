"""A recorded run put together again in this one process, to be looked at."""

import logging

from omegaconf import DictConfig, OmegaConf

from pipeline.config import compose, resolve
from pipeline.lifecycle.build import Assembly, assemble
from pipeline.lifecycle.same_data import change_of_data
from pipeline.runs.run_directory import Run
from pipeline.system.process import ALONE

LEARNED = ("words", "bpe")  # kinds of tokenizers

log = logging.getLogger(__name__)


def reassemble(run: Run, data_root: str | None = None) -> tuple[DictConfig, Assembly]:
    """With the data where it lies now, if no longer where the run found it; warns where it is not what it was.

    Raises UserError for what does not fit any more.
    """
    config = run.config()
    config.trainer.update({"devices": 1, "strategy": "auto"})
    if data_root is not None:
        compose.update(config, "data.root", data_root)
    resolve.check_signatures(config)
    assembly = assemble(with_its_tokenizer(run, config), ALONE)
    if (sentence := change_of_data(run, assembly)) is not None:
        log.warning(sentence)
    return config, assembly


def with_its_tokenizer(run: Run, config: DictConfig) -> DictConfig:
    """A copy that takes the tokenizer of the run's beginning: an older version learned another one of the same data."""
    key, changed = "data.source.tokenizer.kind", config.copy()
    if run.tokenizer_path.is_file() and OmegaConf.select(config, key, throw_on_missing=False) in LEARNED:
        OmegaConf.update(changed, key, str(run.tokenizer_path))
    return changed
