"""Load a recorded run into this process, to evaluate, diagnose or export it."""

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
    """Describe how the data differ from those of the training; None if they do not, or if that is unknown."""
    facts = run_files.ASSEMBLED.record_or_warn(run.folder)
    before: dict[str, Any] | None = None if facts is None else facts.get("data")
    now = components.spec
    if before is None or now is None or before["digest"] == now.digest:
        return None
    sizes = [
        f"{before['sizes'].get(part, 0):,} {part} samples are {size:,} now"
        for part, size in now.sizes.items()
        if before["sizes"].get(part) != size
    ]
    difference = ", ".join(sizes) or "as many samples, but not the same"
    return (
        f"the data of {run.id} has changed since it was trained: {difference} "
        f"(SHA-256 {before['digest'][:12]}, now {now.digest[:12]})"
    )


def check_same_data(run: Run, components: Components) -> None:
    """Raise RunError if the data have changed: a training that goes on with other data is another run."""
    sentence = describe_data_change(run, components)
    if sentence is not None:
        raise RunError(
            f"{sentence}. Put back what it was, or start a new run that starts from its weights:\n"
            f"  {new_run_command(run)}"
        )


LEARNED_TOKENIZERS = ("words", "bpe")  # kinds of tokenizers

log = logging.getLogger(__name__)


def load_run(run: Run, data_root: str | None = None) -> tuple[DictConfig, Components]:
    """Build the components of a recorded run; `data_root` is the folder of the data if they have moved.

    Warns if the data have changed. Raises UserError if something does not fit any more.
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
    """Return a copy that loads the run's saved tokenizer: another version may learn another one from the same data."""
    key, copy = "data.source.tokenizer.kind", config.copy()
    if run.tokenizer_path.is_file() and OmegaConf.select(config, key, throw_on_missing=False) in LEARNED_TOKENIZERS:
        OmegaConf.update(copy, key, str(run.tokenizer_path))
    return copy
