"""What stands in a folder of samples and is no file that can be read: named or left out, and nobody waits for it."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.data.conftest import Record
from tests.data.files.test_audio_folder import ARGUMENTS as OF_SOUND
from tests.data.files.test_image_folder import ARGUMENTS as OF_PICTURES

from pipeline.data.dataset import DataSource
from pipeline.data.files.audio_folder import AudioFolder
from pipeline.data.files.image_folder import ImageFolder
from pipeline.data.text.text_rows import read_text_rows
from pipeline.errors import DataError


def a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.path.relpath(path))  # the whole path may be too long for one


def without_permission(path: Path) -> None:
    path.touch(mode=0)


# What is made under a sample's name, and what is said of it.
MADE: dict[str, tuple[Callable[[Path], None], str]] = {
    "a link to itself": (lambda path: path.symlink_to(path.name), "is a link to itself"),
    "a link to nothing": (lambda path: path.symlink_to("nothing"), "is a link to nothing"),
    "a pipe": (os.mkfifo, "is a pipe"),
    "a link to a pipe": (lambda path: (os.mkfifo(path.with_name("p")), path.symlink_to("p"))[1], "is a pipe"),
    "a socket": (a_socket, "is a socket"),
    "a device": (lambda path: path.symlink_to("/dev/zero"), "is a device"),
    "a file of somebody else": (without_permission, "cannot be read: Permission denied"),
}
NOBODY_IS_REFUSED = os.geteuid() == 0


@pytest.fixture(params=["picture", "recording"])
def samples(request: pytest.FixtureRequest, tmp_path: Path, record: Record) -> tuple[DataSource, DataSource, Path, str]:
    """What fails and what skips, a folder of 30, and how its files end."""
    for number in range(30):
        folder = tmp_path / "samples" / ("cat" if number < 20 else "dog")
        folder.mkdir(parents=True, exist_ok=True)
        if request.param == "recording":
            record(folder / f"{number}.wav", number)
        else:
            pixels = np.random.default_rng(number).integers(0, 256, (6, 5), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
    make = AudioFolder if request.param == "recording" else ImageFolder
    arguments = OF_SOUND if request.param == "recording" else OF_PICTURES
    fails, skips = make(**arguments), make(**arguments | {"on_bad_sample": "skip"})
    return fails, skips, tmp_path / "samples", ".wav" if request.param == "recording" else ".png"


@pytest.mark.parametrize("case", MADE)
def test_a_path_that_is_not_a_readable_file_is_named_or_left_out(
    case: str, samples: tuple[DataSource, DataSource, Path, str]
) -> None:
    fails, skips, root, suffix = samples
    if case == "a file of somebody else" and NOBODY_IS_REFUSED:
        pytest.skip("whoever runs this may read everything")
    make, said = MADE[case]
    make(root / "dog" / f"odd{suffix}")
    with pytest.raises(DataError, match=rf"(?s)1 of 31 .*odd{suffix} {said}.*on_bad_sample=skip"):
        fails.load(root)
    parts = skips.load(root)
    assert sum(map(len, parts.by_name().values())) == 30
    assert len(parts.skipped) == 1 and f"{root}/dog/odd{suffix} {said}" in parts.skipped[0]
    os.unlink(root / "dog" / f"odd{suffix}")
    (root / "labels.csv").write_text(
        "path,label\n" + "".join(f"{path.relative_to(root)},{path.parent.name}\n" for path in root.rglob(f"*{suffix}"))
    )
    make(root / f"odd{suffix}")
    with (root / "labels.csv").open("a") as listed:
        listed.write(f"odd{suffix},cat\n")
    skips.labels = "labels.csv"  # type: ignore[attr-defined]  # both kinds have them
    assert said in skips.load(root).skipped[0]


def test_folders_that_programs_leave_behind_are_no_classes_and_hold_no_samples(
    samples: tuple[DataSource, DataSource, Path, str],
) -> None:
    fails, _, root, suffix = samples
    copied = next((root / "cat").iterdir()).read_bytes()
    for place in ("__MACOSX/cat", ".ipynb_checkpoints", "cat/.ipynb_checkpoints", "cat/__MACOSX", "cat/.thumbnails"):
        (root / place).mkdir(parents=True)
        (root / place / f"copy{suffix}").write_bytes(copied)
    for name in (".DS_Store", "Thumbs.db", f"._0{suffix}"):
        (root / "cat" / name).write_bytes(b"x")
    (root / "dog" / f"folder{suffix}").mkdir()
    (root / "cat" / "back").symlink_to("..")  # cat/back/cat/back/...
    parts = fails.load(root)
    assert parts.class_names == ("cat", "dog") and parts.skipped == ()
    assert sum(map(len, parts.by_name().values())) == 30 + 10, "of cats, and once more all dogs, by the link"


@pytest.mark.parametrize("name", ["line\nend", "\x1b[2Jgone", b"\xff\xfe".decode(errors="surrogateescape"), "ok é 狗"])
def test_names_of_any_bytes_are_read_and_shown_on_one_line(
    name: str, samples: tuple[DataSource, DataSource, Path, str]
) -> None:
    fails, skips, root, suffix = samples
    good = next((root / "cat").iterdir())
    good.rename(good.with_name(f"{name}{suffix}"))
    assert sum(map(len, fails.load(root).by_name().values())) == 30
    (root / "cat" / f"{name}2{suffix}").write_bytes(b"nothing of the kind")
    with pytest.raises(DataError) as raised:
        fails.load(root)
    shown = str(raised.value).splitlines()
    assert len(shown) == 3 and all(line.isprintable() for line in shown)
    (told,) = skips.load(root).skipped
    assert told.isprintable() and told.encode()


@pytest.mark.parametrize("name", ["line\nend", "\x1b[2Jgone", b"\xff".decode(errors="surrogateescape")])
def test_a_class_has_a_name_that_can_be_shown(name: str, samples: tuple[DataSource, DataSource, Path, str]) -> None:
    fails, skips, root, _ = samples
    (root / "dog").rename(root / name)
    (root / "cat").rename(root / "a")
    for _ in range(2):
        (root / "b").mkdir(exist_ok=True)
        one = next((root / "a").iterdir())
        one.rename(root / "b" / one.name)
    with pytest.raises(DataError, match="has a name that cannot be shown, and a folder is a class: rename it"):
        fails.load(root)
    assert skips.load(root).class_names == ("a", "b")


@pytest.mark.parametrize("case", [case for case in MADE if "socket" not in case and "somebody" not in case])
def test_a_table_of_sentences_that_is_no_file_is_refused_at_once(case: str, tmp_path: Path) -> None:
    make, said = MADE[case]
    make(tmp_path / "train.csv")
    with pytest.raises(DataError, match=rf"train\.csv {said}"):
        read_text_rows(tmp_path / "train.csv", text="text", label="label", header=True)
