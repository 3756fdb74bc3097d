import re
from pathlib import Path

import pytest

from pipeline.config import search_path
from pipeline.config.help_pages import options_page, train_page
from pipeline.errors import ConfigError


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def test_files_that_begin_with_an_underscore_are_no_options() -> None:
    found = list(search_path.option_groups([search_path.shipped_folder()])["data"])
    assert "mnist5k" in found and not [name for name in found if name.startswith("_")]


def test_the_projects_own_conf_is_not_searched_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(search_path.shipped_folder().parent)
    assert search_path.config_folders() == [search_path.shipped_folder()]


def test_folders_are_searched_from_the_users_to_ours(elsewhere: Path) -> None:
    (elsewhere / "conf").mkdir()
    (elsewhere / "more").mkdir()
    assert search_path.config_folders(["more"]) == [
        elsewhere / "more",
        elsewhere / "conf",
        search_path.shipped_folder(),
    ]


def test_the_users_file_stands_for_an_option_of_the_same_name(elsewhere: Path) -> None:
    write(elsewhere / "conf/model/cnn.yaml", "# Theirs.\nwidth: 1\n")
    found = search_path.option_groups(search_path.config_folders())["model"]
    assert found["cnn"] == elsewhere / "conf/model/cnn.yaml"
    assert list(found) == list(search_path.option_groups([search_path.shipped_folder()])["model"])


def test_groups_within_groups_are_found(elsewhere: Path) -> None:
    write(elsewhere / "conf/model/vision/vit.yaml", "width: 1\n")
    assert list(search_path.option_groups(search_path.config_folders())["model/vision"]) == ["vit"]


@pytest.mark.parametrize(
    "content, expected",
    [("# One.\n# Two.\na: 1\n", "One."), ("# @package _global_\n# Two.\n", "Two."), ("a: 1\n# Late.\n", ""), ("", "")],
)
def test_the_first_line_of_comment_describes_an_option(tmp_path: Path, content: str, expected: str) -> None:
    write(tmp_path / "x.yaml", content)
    assert search_path.first_comment(tmp_path / "x.yaml") == expected


def test_every_option_that_we_ship_is_described() -> None:
    found = search_path.option_groups([search_path.shipped_folder()])
    assert [
        path for options in found.values() for path in options.values() if not search_path.first_comment(path)
    ] == []


def test_help_lists_every_group_with_its_default() -> None:
    text = train_page("train", [search_path.shipped_folder()])
    assert re.search(r"\n  model +bag_of_words cnn\* ", text)
    assert re.search(r"\n  scheduler +constant cosine one_cycle\*\n", text)


def test_info_describes_every_option() -> None:
    text = options_page("train", [search_path.shipped_folder()])
    assert "\nmodel\n  bag_of_words " in text and "\n  cnn* " in text
    assert "One linear layer: logistic regression for many classes." in text


def test_a_missing_config_dir_is_refused() -> None:
    with pytest.raises(ConfigError, match="is not a folder"):
        search_path.config_folders(["/surely/not/here"])
