"""A recorded run put together again in this one process, to be looked at."""

import logging

from omegaconf import DictConfig

from pipeline.config import compose, resolve
from pipeline.lifecycle.assemble import Assembly, assemble
from pipeline.lifecycle.run import Run
from pipeline.lifecycle.same_data import change_of_data
from pipeline.process import ALONE

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
    assembly = assemble(config, ALONE)
    if (sentence := change_of_data(run, assembly)) is not None:
        log.warning(sentence)
    return config, assembly
