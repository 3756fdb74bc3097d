"""The map of the code is the code's."""

import re

import pytest

from tools import map as map_of_code


def test_the_map_in_docs_is_what_the_imports_say() -> None:
    assert map_of_code.PAGE.read_text(encoding="utf-8") == map_of_code.drawn(), "type: python tools/map.py"


def test_an_arrow_that_follows_from_others_is_left_out() -> None:
    imports = {"a": {"b", "c"}, "b": {"c"}, "c": set()}
    assert map_of_code.reachable(imports["a"], imports) == {"c"}


def test_every_room_has_a_chapter() -> None:
    page = map_of_code.drawn()
    assert [room for room in map_of_code.rooms() if f"\n## {room}" not in page] == []


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "docs/glossary.md"])
def test_every_file_that_a_page_names_exists(page: str) -> None:
    names = re.findall(r"`([\w/*.]+/[\w*.]*|[\w*]+\.py)`", (map_of_code.CHECKOUT / page).read_text(encoding="utf-8"))
    assert len(names) > 10
    roots = (map_of_code.CHECKOUT, map_of_code.SOURCE)
    missing = [name for name in names if not any(list(root.glob(name)) for root in roots)]
    assert [name for name in missing if not re.search(r"\bx\.(py|yaml)$|^X_|^(runs|dist|build)/|^\.", name)] == []
