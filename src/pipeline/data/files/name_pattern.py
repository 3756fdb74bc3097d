"""Labels that stand in the names of files: `{label}_{speaker}_{index}.wav`."""

import re
from pathlib import Path

from pipeline.data.files.labelled_files import Kind, LabelledFile, paths_in
from pipeline.errors import ConfigError

EXAMPLE = """'data.source.pattern="{label}_{speaker}_{index}.wav"'"""
FIELD = re.compile(r"\{([^{}]*)\}")


class NamePattern:
    """A path below data.root with fields in braces, which stand for one character or more, but for no `/`.

    `label` must be one of them. Where a name fits in several ways, the earlier fields are the shorter ones.
    """

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.fields = FIELD.findall(pattern)
        wrong = [name for name in self.fields if not name.isidentifier() or self.fields.count(name) > 1]
        if "label" not in self.fields or wrong:
            found = f"{{{wrong[0]}}} is no name of its own" if wrong else "it has no {label}"
            raise ConfigError(f"data.source.pattern={pattern}: {found}; expected such as {EXAMPLE}")
        # Every other piece is a field's name, the ones between them are text.
        pieces = FIELD.split(pattern)
        self._compiled = re.compile(
            "".join(f"(?P<{piece}>[^/]+?)" if place % 2 else re.escape(piece) for place, piece in enumerate(pieces))
        )

    def read(self, path: str) -> dict[str, str] | None:
        """The fields of a path; None where it does not fit."""
        found = self._compiled.fullmatch(path)
        return None if found is None else found.groupdict()


def in_names(root: Path, pattern: NamePattern, group: str | None, kind: Kind) -> tuple[list[LabelledFile], list[str]]:
    """The files whose path fits, with `group` the field that keeps them together; and the paths that do not fit."""
    if group is not None and group not in pattern.fields:
        raise ConfigError(
            f"data.source.group={group} is no field of data.source.pattern={pattern.pattern}; expected one of "
            f"{', '.join(pattern.fields)}"
        )
    fields = {path: pattern.read(path) for path in paths_in(root, Path(), kind)}
    files = [
        LabelledFile(path, found["label"], None, found[group] if group is not None else None)
        for path, found in fields.items()
        if found is not None
    ]
    return files, [path for path, found in fields.items() if found is None]
