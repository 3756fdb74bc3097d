"""A recorded run put together again in this one process, to be looked at."""

import logging
from typing import Any

from omegaconf import DictConfig, OmegaConf

from pipeline import run_files
from pipeline.config import compose, instantiate
from pipeline.errors import RunError
from pipeline.lifecycle.build import Components, build_components
from pipeline.lifecycle.resume import new_run_command
from pipeline.runs.run_directory import Run
from pipeline.system.process import SINGLE_PROCESS


def describe_data_change(run: Run, components: Components) -> str | None:
    """In a sentence, what is not as it was when the run set out; None where all is, or nobody can tell."""
    kept = run_files.ASSEMBLED.record_or_warn(run.folder)
    before: dict[str, Any] | None = None if kept is None else kept.get("data")
    now = components.spec
    if before is None or now is None or before["digest"] == now.digest:
        return None
    sizes = [
        f"{before['sizes'].get(part, 0):,} {part} samples are {size:,} now"
        for part, size in now.sizes.items()
        if before["sizes"].get(part) != size
    ]
    told = ", ".join(sizes) or "as many samples, but not the same"
    return (
        f"the data of {run.id} has changed since it was trained: {told} "
        f"(SHA-256 {before['digest'][:12]}, now {now.digest[:12]})"
    )


def check_same_data(run: Run, components: Components) -> None:
    """Raises RunError: going on with other data would be another run."""
    sentence = describe_data_change(run, components)
    if sentence is not None:
        raise RunError(
            f"{sentence}. Put back what it was, or start a new run that sets out from its weights:\n"
            f"  {new_run_command(run)}"
        )


LEARNED_TOKENIZERS = ("words", "bpe")  # kinds of tokenizers

log = logging.getLogger(__name__)


def load_run(run: Run, data_root: str | None = None) -> tuple[DictConfig, Components]:
    """With the data where it lies now, if no longer where the run found it; warns where it is not what it was.

    Raises UserError for what does not fit any more.
    """
    config = run.config()
    config.trainer.update({"devices": 1, "strategy": "auto"})
    if data_root is not None:
        compose.set_value(config, "data.root", data_root)
    instantiate.check_signatures(config)
    components = build_components(with_saved_tokenizer(run, config), SINGLE_PROCESS)
    if (sentence := describe_data_change(run, components)) is not None:
        log.warning(sentence)
    return config, components


def with_saved_tokenizer(run: Run, config: DictConfig) -> DictConfig:
    """A copy that takes the tokenizer of the run's beginning: an older version learned another one of the same data."""
    key, changed = "data.source.tokenizer.kind", config.copy()
    if run.tokenizer_path.is_file() and OmegaConf.select(config, key, throw_on_missing=False) in LEARNED_TOKENIZERS:
        OmegaConf.update(changed, key, str(run.tokenizer_path))
    return changed
