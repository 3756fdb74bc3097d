"""Old names of classes in a configuration are replaced by today's, before anything else looks at them."""

from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from pipeline import moved, run_files
from pipeline.config.allowed import targets


def rename_targets(config: DictConfig) -> dict[str, str]:
    """Change every `_target_` that has moved; return {old name: new name} of those."""
    plain: Any = OmegaConf.to_container(config, resolve=False)
    renamed = {}
    for path, node in targets(plain):
        old = str(node["_target_"])
        new = moved.current(old)
        if new != old:
            OmegaConf.update(config, f"{path}._target_" if path else "_target_", new)
            renamed[old] = new
    return renamed


def tell_renamed(renamed: Mapping[str, str]) -> None:
    if renamed:
        names = ", ".join(f"{old} is now {new}" for old, new in renamed.items())
        run_files.warn(f"{names}: the old name still works; to be rid of this line, write the new one")
