"""Check a configuration before torch is imported, for `pipeline train` and for commands that are suggested."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from pipeline.config.checks.check_config import check_config
from pipeline.config.checks.cross_checks import LOCAL_LAUNCHERS
from pipeline.config.checks.missing_and_unread_keys import check_required_values, check_unread_keys
from pipeline.config.compose import Composed, compose
from pipeline.errors import ConfigError, UserError, missing_package_error

TABLE_SOURCE, TEXT_SOURCE = "pipeline.data.tables.table.Table", "pipeline.data.text.text_table.TextTable"
AUDIO_SOURCES = ("pipeline.data.files.audio_folder.AudioFolder", "pipeline.data.datasets.spoken_digits.SpokenDigits")


def check_data_files(config: DictConfig) -> None:
    """Raise the UserError that loading would raise, some seconds earlier."""
    if OmegaConf.select(config, "launch._target_") not in LOCAL_LAUNCHERS:  # other nodes may see other files
        return
    if OmegaConf.select(config, "data.source._target_") in AUDIO_SOURCES and find_spec("soundfile") is None:
        raise missing_package_error("Sound", "soundfile")
    if OmegaConf.is_missing(config.data, "root"):
        return
    data: Any = OmegaConf.to_container(config.data, resolve=True)
    source = data.get("source")
    if not isinstance(source, dict) or not isinstance(data.get("root"), str):
        return
    root = Path(data["root"]).expanduser()
    files = {part: source.get(part) for part in ("train", "validation", "test")}
    if source.get("_target_") == TABLE_SOURCE and source["target"] not in (None, "???"):
        _check_table(root, source, files)
    elif source.get("_target_") == TEXT_SOURCE and not root.is_file():  # loading reports a file in place of a folder
        _check_text([root / str(file) for file in files.values() if file is not None], source)


def _check_table(root: Path, source: dict[str, Any], files: dict[str, str | None]) -> None:
    from pipeline.data.tables import table_files

    roles = {role: source[role] for role in ("target", "time", "group")}
    table_files.check_roles(roles["target"], roles["time"], roles["group"], source["ignore"])
    names = [name for name in files.values() if name is not None]
    for path in [root] if files["train"] is None else [root / name for name in names]:
        asked = [name for name in roles.values() if name is not None] + source["categorical"] + source["ignore"]
        table_files.check_columns_exist(path, table_files.column_names(path), asked)


def _check_text(paths: list[Path], source: dict[str, Any]) -> None:
    from pipeline.data.text import text_rows

    for path in paths:
        text_rows.check_text_columns(path, text=source["text"], label=source["label"], header=source["header"])


TENSORBOARD_PACKAGES = ("tensorboard", "tensorboardX")  # either will do


def check_composed(composed: Composed) -> None:
    """Raise UserError for the first mistake that shows before torch is imported."""
    check_unread_keys(composed)
    check_config(composed.config, composed.shipped)
    check_required_values(composed.config, composed.choices, composed.folders)
    check_data_files(composed.config)
    check_optional_packages(composed.config)


def check_optional_packages(config: DictConfig) -> None:
    """Raise ConfigError for a logger whose package is not brought along and not there."""
    for name, node in (config.get("loggers") or {}).items():
        if str(node.get("_target_")).endswith(".TensorBoardLogger") and not any(map(find_spec, TENSORBOARD_PACKAGES)):
            raise ConfigError(
                f"loggers.{name} needs the package tensorboard, which is not installed: python -m pip install "
                "tensorboard, or loggers=csv, which needs nothing"
            )


def is_accepted(overrides: Sequence[str]) -> bool:
    """Return whether `pipeline train` takes these overrides, typed where this process stands."""
    try:
        check_composed(compose(overrides))
    except UserError:
        return False
    return True
