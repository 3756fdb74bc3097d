import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest

MODULES = {
    "__init__.py": "from .nets import Net as Exported\n",
    "nets.py": """
        from collections.abc import Sequence
        from dataclasses import dataclass, field
        from typing import Any, ClassVar, Literal, Optional, Union

        import os
        from os import system as smuggled

        Mode = Literal["min", "max"]

        class Net:
            def __init__(self, *, width: int, activation: str = "relu", scale: float | None = None) -> None:
                if width < 1:
                    raise ValueError(f"width {width} is too small")
                self.width, self.activation, self.scale = width, activation, scale

            @classmethod
            def pretrained(cls, name: str) -> "Net":
                return cls(width=len(name))

        class Inherits(Net):
            pass

        class Anything:
            def __init__(self, **settings: Any) -> None:
                self.settings = settings

        class Needs:
            def __init__(self, spec: object, size: int) -> None:
                self.spec, self.size = spec, size

        @dataclass
        class Settings:
            size: int
            kind: ClassVar[str] = "x"
            names: list[str] = field(default_factory=list)
            seen: int = field(init=False, default=0)

        def function(rate: float, mode: Mode = "min", devices: Union[list[int], str, int] = "auto",
                     betas: tuple[float, float] = (0.9, 0.999), steps: Optional[int] = None,
                     widths: Sequence[int] = (1,), table: dict[str, int] | None = None, anything: Any = 0) -> dict:
            return {"rate": rate, "mode": mode}

        def broken(size: int) -> None:
            raise RuntimeError("the machine broke down")

        if os.environ.get("NEVER_SET"):
            class Conditional:
                pass
    """,
    "stars.py": "from .nets import *\nAlias = Net\n",
    "dynamic.py": "def __getattr__(name):\n    raise AttributeError(name)\n",
}


@pytest.fixture(scope="session")
def their_package(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The name of a user's own package that can be imported."""
    place = tmp_path_factory.mktemp("theirs")
    folder = place / "their_package"
    folder.mkdir()
    for name, content in MODULES.items():
        (folder / name).write_text(dedent(content))
    sys.path.append(str(place))
    yield "their_package"
    sys.path.remove(str(place))


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a space in its name and nothing in it."""
    folder = tmp_path / "a user's place"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder
