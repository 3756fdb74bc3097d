import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline.system.files import state_folder
from pipeline.system.seal import KEY, PENDING, RUN_FILES, SEAL, SEARCH_FILES, is_made_here, set_seal


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "runs" / "20260101-000000-cnn-abcd"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("seed: 0\n")
    (folder / "overrides.txt").write_text("seed=0\n")
    return folder


def test_what_is_sealed_here_was_made_here(run: Path) -> None:
    assert not is_made_here(run)
    set_seal(run)
    assert is_made_here(run)


def test_a_run_directory_may_be_moved_and_copied(run: Path, tmp_path: Path) -> None:
    set_seal(run)
    shutil.copytree(run, tmp_path / "copy")
    run.rename(tmp_path / "elsewhere")
    assert is_made_here(tmp_path / "copy")
    assert is_made_here(tmp_path / "elsewhere")


def test_a_kill_between_a_new_configuration_and_its_seal_leaves_the_run_this_users(run: Path) -> None:
    set_seal(run)
    (run / PENDING).mkdir()
    (run / PENDING / "config.yaml").write_text("seed: 1\n")
    set_seal(run / PENDING)
    os.replace(run / PENDING / "config.yaml", run / "config.yaml")
    assert is_made_here(run)
    (run / "config.yaml").write_text("seed: 2\n")
    assert not is_made_here(run)


@pytest.mark.parametrize("name", SEARCH_FILES)
def test_a_changed_configuration_is_not_ours(run: Path, name: str) -> None:
    set_seal(run, SEARCH_FILES)
    (run / name).write_text("seed: 1\n")
    assert not is_made_here(run, SEARCH_FILES)


@pytest.mark.parametrize("content", [None, b"", b"\0\0", b"\xff", b"seed=1"])
def test_what_was_typed_for_a_run_may_be_lost(run: Path, content: bytes | None) -> None:
    set_seal(run)
    (run / "overrides.txt").unlink()
    if content is not None:
        (run / "overrides.txt").write_bytes(content)
    assert is_made_here(run)
    (run / "config.yaml").write_text("seed: 1\n")
    assert not is_made_here(run)


def test_the_seal_of_a_run_makes_no_search(run: Path) -> None:
    set_seal(run, RUN_FILES)
    assert not is_made_here(run, SEARCH_FILES)


def test_nothing_moves_from_one_sealed_file_to_another(run: Path) -> None:
    (run / "config.yaml").write_text("ab")
    (run / "overrides.txt").write_text("c")
    set_seal(run, SEARCH_FILES)
    (run / "config.yaml").write_text("a")
    (run / "overrides.txt").write_text("bc")
    assert not is_made_here(run, SEARCH_FILES)


def test_the_seal_of_another_user_is_not_ours(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_seal(run)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "of another"))
    assert not is_made_here(run)
    set_seal(tmp_path / "runs" / run.name)  # a key of their own
    assert is_made_here(run)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert not is_made_here(run)


@pytest.mark.parametrize("content", [b"", b"\0" * 65, b"\xff\xfe", b"0" * 64])
def test_a_damaged_seal_is_none(run: Path, content: bytes) -> None:
    set_seal(run)
    (run / SEAL).write_bytes(content)
    assert not is_made_here(run)


@pytest.mark.parametrize("damaged", [b"", b"short"])
def test_with_a_damaged_key_nobody_can_seal(run: Path, damaged: bytes) -> None:
    set_seal(run)
    (state_folder() / KEY).write_bytes(damaged)
    assert not is_made_here(run)
    set_seal(run)
    assert is_made_here(run)
    assert len((state_folder() / KEY).read_bytes()) == 32


def test_the_key_is_for_this_user_alone(run: Path) -> None:
    set_seal(run)
    assert os.stat(state_folder() / KEY).st_mode & 0o777 == 0o600
    assert [path.name for path in state_folder().iterdir()] == [KEY]


def test_runs_that_begin_at_once_agree_on_a_key(run: Path, tmp_path: Path) -> None:
    folders = [tmp_path / str(number) for number in range(16)]
    for folder in folders:
        shutil.copytree(run, folder)
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(set_seal, folders))
    assert all(map(is_made_here, folders))


def test_without_a_place_for_a_key_nothing_is_sealed_and_nothing_fails(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    set_seal(run)
    assert not (run / SEAL).exists()
    assert not is_made_here(run)
