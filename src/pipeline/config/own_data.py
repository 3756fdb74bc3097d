"""Data of the user's own, named by its path where an option was expected: which option reads it."""

import shlex
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

# By the endings of files: the option, and what else is to be typed, after `data.root=`.
TABLE = ("table", "data.source.target=COLUMN model=mlp")
TEXT = ("text_table", "data.source.train={name} model=gru")
FOLDERS = {
    **dict.fromkeys((".jpg", ".jpeg", ".png", ".webp", ".bmp"), ("image_folder", "")),
    **dict.fromkeys((".wav", ".flac", ".ogg"), ("audio_folder", "")),
}
FILES = {**dict.fromkeys((".csv", ".tsv", ".parquet"), TABLE), ".jsonl": TEXT}
LOOKED_AT = 2000  # files of a folder


def typed_for(path: Path) -> str | None:
    """What to type; None for a path to nothing, or to files that no option reads."""
    if path.is_file():
        if path.suffix.lower() not in FILES:
            return None
        option, more = FILES[path.suffix.lower()]
        root = path.parent if option == "text_table" else path
        return _line(option, root, more.format(name=path.name))
    if not path.is_dir():
        return None
    endings = Counter(islice(_endings(path), LOOKED_AT))
    known = [each for each, _ in endings.most_common() if each in FOLDERS or each in FILES]
    if not known:
        return None
    if known[0] in FOLDERS:
        return _line(FOLDERS[known[0]][0], path, "")
    file = next(each for each in sorted(path.rglob("*")) if each.suffix.lower() == known[0])
    return typed_for(file)


def _endings(folder: Path) -> Iterator[str]:
    return (path.suffix.lower() for path in folder.rglob("*") if path.is_file())


def _line(option: str, root: Path, more: str) -> str:
    return " ".join(each for each in (f"data={option}", shlex.quote(f"data.root={root}"), more) if each)
