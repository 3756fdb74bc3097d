"""Draw docs/map.md from the imports of src/pipeline: python tools/map.py

The page has one chapter for each room (a folder or module at the top of the package) in the order of the rows of
pyproject.toml, with the rooms that it imports, and each module with the first sentence of its docstring.
"""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
SOURCE = CHECKOUT / "src/pipeline"
PAGE = CHECKOUT / "docs/map.md"
TOP = """# Map of the code

Made by `python tools/map.py` from the imports and from the first sentence of each module; a test compares the two. An
arrow means "imports"; an arrow that follows from others is left out. A module imports only from rooms below its own.
"""


def main() -> None:
    PAGE.write_text(drawn(), encoding="utf-8")


def drawn() -> str:
    """Return the page as the source is now."""
    modules = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(SOURCE.rglob("*.py"))}
    modules = {path: tree for path, tree in modules.items() if path.name not in ("__init__.py", "__main__.py")}
    imports: dict[str, set[str]] = {room: set() for room in rooms()}
    for path, tree in modules.items():
        imports[room_of(path)] |= imported_rooms(tree) - {room_of(path)}
    chapters = (chapter(room, imports[room], modules) for row in rows() for room in row)
    return "\n".join([TOP, *diagram(imports), *(line for lines in chapters for line in lines)]) + "\n"


def rows() -> list[list[str]]:
    """Return the rows of rooms that import-linter checks, the uppermost first."""
    contracts = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    named = [row.strip("()").split(" | ") for row in contracts[0]["layers"]]
    return [row for row in named if row != ["__main__"]]


def rooms() -> list[str]:
    return [room for row in rows() for room in row]


def room_of(path: Path) -> str:
    return path.relative_to(SOURCE).with_suffix("").parts[0]


def imported_rooms(tree: ast.Module) -> set[str]:
    known = set(rooms())
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            parts = node.module.split(".")
            if parts[0] == "pipeline":
                found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
    return found & known


def diagram(imports: dict[str, set[str]]) -> Iterator[str]:
    """Yield a Mermaid graph of the upper rows, without the arrows that follow from others."""
    everywhere = {room for row in rows()[-3:] for room in row}
    yield from ("```mermaid", "flowchart TD")
    for room, below in imports.items():
        if room not in everywhere:
            for other in sorted(below - everywhere - reachable(below, imports)):
                yield f"    {room} --> {other}"
    yield "```"
    yield f"\nUsed everywhere: {', '.join(f'`{room}`' for room in rooms() if room in everywhere)}.\n"


def reachable(below: set[str], imports: dict[str, set[str]]) -> set[str]:
    """Return the rooms that are reached through another room of `below`."""
    found: set[str] = set()
    waiting = [other for room in below for other in imports[room]]
    while waiting:
        room = waiting.pop()
        if room not in found:
            found.add(room)
            waiting += imports[room]
    return found


def chapter(room: str, below: set[str], modules: dict[Path, ast.Module]) -> Iterator[str]:
    own = {path: tree for path, tree in modules.items() if room_of(path) == room}
    is_folder = (SOURCE / room).is_dir()
    yield f"## {room}{'/' if is_folder else ''}\n"
    if below:
        yield f"Imports {', '.join(f'`{other}`' for other in rooms() if other in below)}.\n"
    if not is_folder:
        yield from (f"{sentence(tree)}\n" for tree in own.values())
        return
    yield from ("| module | |", "| --- | --- |")
    for path, tree in own.items():
        place = path.relative_to(SOURCE / room)
        if "templates" not in place.parts:
            yield f"| [`{place.as_posix()}`](../{path.relative_to(CHECKOUT).as_posix()}) | {sentence(tree)} |"
    yield ""


def sentence(tree: ast.Module) -> str:
    """Return the first sentence of a module's docstring, fit for a cell of a table."""
    paragraph = " ".join((ast.get_docstring(tree) or "").split("\n\n")[0].split())
    return re.split(r"(?<=[.?!]) (?=[A-Z`])", paragraph)[0].replace("|", "\\|")


if __name__ == "__main__":
    main()
