"""A user's own images: found, cut into parts, decoded once, and what is wrong with them named."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.data.data_spec import build_data_spec
from pipeline.data.datamodule import DataModule
from pipeline.data.dataset import Splits
from pipeline.data.files import image_folder
from pipeline.data.files.image_folder import ImageFolder
from pipeline.data.on_disk import RowFile
from pipeline.errors import ConfigError, DataError

ARGUMENTS: dict[str, Any] = {
    "labels": None,
    "label_separator": None,
    "size": None,
    "channels": None,
    "validation_share": 0.2,
    "test_share": 0.2,
    "split_seed": 0,
    "on_bad_sample": "fail",
}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "pipeline" / "pictures"


def load(root: Path, **changed: Any) -> Splits:
    return ImageFolder(**{**ARGUMENTS, **changed}).load(root)


def draw(path: Path, value: int, size: tuple[int, int] = (6, 5), mode: str = "L", **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(value).integers(0, 256, (*size, *((3,) if mode == "RGB" else ())), dtype=np.uint8)
    Image.fromarray(pixels, mode).save(path, **options)


@pytest.fixture
def zoo(tmp_path: Path) -> Path:
    """20 cats and 10 dogs, grey, 6 high and 5 wide."""
    for number in range(30):
        draw(tmp_path / "zoo" / ("cat" if number < 20 else "dog") / f"{number:02}.png", number)
    return tmp_path / "zoo"


def test_a_folder_a_class_becomes_three_parts_with_every_picture_once(zoo: Path) -> None:
    parts = load(zoo)
    assert (parts.name, parts.task, parts.class_names) == ("zoo", "binary", ("cat", "dog"))
    assert {name: len(part) for name, part in parts.by_name().items()} == {"train": 18, "validation": 6, "test": 6}
    assert {int((part.targets == 1).sum()) for part in (parts.validation, parts.test)} == {2}
    found = torch.cat([part.inputs[:] for part in parts.by_name().values()])
    expected = [np.asarray(Image.open(path)) for path in sorted(zoo.rglob("*.png"))]
    assert sorted(each.numpy().tobytes() for each in found) == sorted(each.tobytes() for each in expected)
    assert build_data_spec(parts).input_shape == (1, 6, 5)


def test_folders_of_parts_are_kept_and_the_missing_one_is_cut_from_training(tmp_path: Path) -> None:
    for number in range(40):
        part = "test" if number < 8 else "train"
        draw(tmp_path / "data" / part / "ab"[number % 2] / f"{number}.png", number)
    parts = load(tmp_path / "data")
    assert [len(part) for part in parts.by_name().values()] == [26, 6, 8]


def test_a_list_of_paths_and_labels_does_instead_of_folders(zoo: Path) -> None:
    rows = [
        f"{path.relative_to(zoo)},{path.parent.name},{'test' if path.stem < '05' else ''}"
        for path in zoo.rglob("*.png")
    ]
    (zoo / "labels.csv").write_text("\n".join(["path,label,split", *rows]))
    parts = load(zoo, labels="labels.csv")
    assert len(parts.test) == 5 and not parts.test.targets.any()


def test_pictures_of_a_list_have_any_number_of_labels(zoo: Path) -> None:
    kinds = ("night", "young|night", "", "young")
    paths = sorted(path.relative_to(zoo) for path in zoo.rglob("*.png"))
    rows = [f"{path},{kinds[number % 4]}" for number, path in enumerate(paths)]
    (zoo / "labels.csv").write_text("\n".join(["path,label", *rows]))
    parts = load(zoo, labels="labels.csv", label_separator="|")
    assert (parts.task, parts.class_names) == ("multilabel", ("night", "young"))
    targets = torch.cat([part.targets for part in parts.by_name().values()])
    assert targets.shape == (len(paths), 2) and targets.dtype == torch.float32
    told = [kinds[number % 4] for number in range(len(paths))]
    assert targets.sum(dim=0).tolist() == [sum(name in each for each in told) for name in parts.class_names]
    with pytest.raises(
        ConfigError, match=r"data.source.label_separator=\| separates labels in a list of images: name a list"
    ):
        load(zoo, label_separator="|")


def test_mixed_sizes_formats_and_colours_are_brought_to_one_size(tmp_path: Path) -> None:
    for number in range(20):
        suffix, mode = ("png", "jpg", "webp")[number % 3], ("L", "RGB")[number % 2]
        draw(tmp_path / "data" / "ab"[number // 10] / f"{number}.{suffix}", number, (8 + number, 9), mode)
    with pytest.raises(ConfigError, match=r"differ in size: .*data\.source\.size=\["):
        load(tmp_path / "data")
    parts = load(tmp_path / "data", size=[7, 6])
    assert parts.train.inputs.shape == (12, 3, 7, 6) and parts.train.inputs.dtype == torch.uint8
    assert load(tmp_path / "data", size=[7, 6], channels=1).train.inputs.shape == (12, 1, 7, 6)


def test_a_picture_lying_on_its_side_is_turned_as_its_camera_says(tmp_path: Path) -> None:
    turned = Image.Exif()
    turned[image_folder.ORIENTATION] = 6
    for number in range(20):
        draw(tmp_path / "data" / "ab"[number % 2] / f"{number}.jpg", number, (6, 9), exif=turned)
    assert load(tmp_path / "data").train.inputs.shape[1:] == (1, 9, 6)


def test_pixels_are_decoded_once_and_anew_when_a_file_changed(zoo: Path, cache: Path) -> None:
    before = build_data_spec(load(zoo)).digest
    (pixels,) = cache.glob("*.values")
    made_at = pixels.stat().st_mtime_ns
    assert build_data_spec(load(zoo)).digest == before and pixels.stat().st_mtime_ns == made_at
    draw(zoo / "cat" / "00.png", 99)
    assert build_data_spec(load(zoo)).digest != before
    assert len(list(cache.glob("*.values"))) == 2 and not list(cache.glob("*.unfinished"))


def test_pixels_that_were_deleted_from_the_cache_are_decoded_again(zoo: Path, cache: Path) -> None:
    before = build_data_spec(load(zoo)).digest
    next(cache.glob("*.values")).unlink()
    assert build_data_spec(load(zoo)).digest == before


def test_a_class_of_which_the_cut_leaves_nothing_to_learn_from_is_named(zoo: Path) -> None:
    draw(zoo / "emu" / "1.png", 101)
    draw(zoo / "emu" / "2.png", 102)
    with pytest.raises(DataError, match=r"no training image has the class emu: .*validation_share"):
        load(zoo, validation_share=0.45, test_share=0.45)


def test_pixels_are_decoded_anew_when_their_file_is_not_as_it_was_left(zoo: Path, cache: Path) -> None:
    before = build_data_spec(load(zoo)).digest
    (pixels,) = cache.glob("*.values")
    with pixels.open("r+b") as file:
        file.write(b"another")
    assert build_data_spec(load(zoo)).digest == before
    assert load(zoo).train.inputs[:].float().mean() == build_data_spec(load(zoo)).mean[0]


def test_another_cut_reads_the_same_pixels(zoo: Path, cache: Path) -> None:
    first, second = (load(zoo, split_seed=seed) for seed in (0, 1))
    assert build_data_spec(first).digest != build_data_spec(second).digest
    assert len(list(cache.glob("*.values"))) == 1


def test_a_second_start_reads_no_pixel(zoo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = build_data_spec(load(zoo))
    monkeypatch.setattr(RowFile, "read", lambda self, rows: pytest.fail("pixels were read"))
    module = DataModule(source=ImageFolder(**ARGUMENTS), root=str(zoo), batch_size=4, evaluation_batch_size=4,
                        train_fraction=1.0, seed=0)  # fmt: skip
    assert module.load() == before
    module = DataModule(source=ImageFolder(**ARGUMENTS), root=str(zoo), batch_size=4, evaluation_batch_size=4,
                        train_fraction=0.5, seed=0, folds=3)  # fmt: skip
    assert module.load().sizes == {"train": 8, "validation": 8, "test": 6}


@pytest.mark.parametrize(
    "content, reason", [(b"", "is empty"), (b"no picture", "is not an image"), (None, "cannot be read")]
)
def test_a_picture_that_cannot_be_read_is_named_and_left_out_on_demand(
    zoo: Path, content: bytes | None, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    bad = zoo / "dog" / "bad.png"
    draw(bad, 7)
    bad.write_bytes(bad.read_bytes()[:-25] if content is None else content)
    with pytest.raises(DataError, match=rf"(?s)1 of 31 images.*bad\.png {reason}.*on_bad_sample=skip"):
        load(zoo)
    parts = load(zoo, on_bad_sample="skip")
    assert sum(len(part) for part in parts.by_name().values()) == 30
    assert "left out 1 of 31 images" in caplog.text
    assert len(parts.skipped) == 1 and parts.skipped[0].startswith(f"{bad} {reason}")


def test_copies_of_training_pictures_in_other_parts_are_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(30):
        draw(tmp_path / "data" / ("train", "train", "test")[number % 3] / "ab"[number % 2] / f"{number}.png", number)
    load(tmp_path / "data")
    assert "warning" not in caplog.text
    draw(tmp_path / "data" / "test" / "a" / "copy.png", 3)
    load(tmp_path / "data")
    assert "1 of the 11 test images are in the train split, too" in caplog.text and "copy.png" in caplog.text


def test_what_is_wrong_with_a_folder_is_said_with_the_remedy(tmp_path: Path, zoo: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.root=/path/to/folder"):
        ImageFolder(**ARGUMENTS).load(None)
    with pytest.raises(DataError, match="does not exist"):
        load(tmp_path / "nowhere")
    (tmp_path / "void").mkdir()
    with pytest.raises(DataError, match="holds no images; expected one folder a class"):
        load(tmp_path / "void")
    (zoo / "emu").mkdir()
    with pytest.raises(DataError, match="emu holds no image"):
        load(zoo)
    skipped = load(zoo, on_bad_sample="skip").skipped
    assert skipped == (f"{zoo}/emu holds no image (.jpg, .jpeg, .png, .webp, .bmp), and a folder is a class",)
    draw(zoo / "emu" / "1.png", 1)
    with pytest.raises(DataError, match="the class emu has 1 image"):
        load(zoo)
    skipped = load(zoo, on_bad_sample="skip").skipped
    assert skipped == (f"{zoo}/emu/1.png is the only training image of emu",)
    with pytest.raises(DataError, match=r"labels\.csv does not exist"):
        load(zoo, labels="labels.csv")
    (zoo / "labels.csv").write_text("file,label\ncat/00.png,cat\n")
    with pytest.raises(DataError, match="has the columns file, label; expected in its first line: path,label"):
        load(zoo, labels="labels.csv")


def test_bad_rows_of_a_list_are_named_together_or_left_out(zoo: Path) -> None:
    good = [f"{path.relative_to(zoo)};{path.parent.name};" for path in sorted(zoo.rglob("*.png"))]
    bad = ["cat/77.png;cat;", "cat/00.png;cat;tset", "cat/00.png;;"]
    (zoo / "labels.csv").write_text("\n".join(["path;label;split", *bad, *good]))
    with pytest.raises(DataError, match=r"3 of 33 images") as raised:
        load(zoo, labels="labels.csv")
    for said in ("line 2: .*77.png does not exist", "line 3: split='tset'; expected train", "line 4: .*label=''"):
        assert re.search(f"labels.csv, {said}", str(raised.value))
    parts = load(zoo, labels="labels.csv", on_bad_sample="skip")
    assert len(parts.skipped) == 3 and sum(len(part) for part in parts.by_name().values()) == 30


def test_a_class_that_training_never_shows_is_named(tmp_path: Path) -> None:
    for number in range(20):
        draw(tmp_path / "data" / "train" / "ab"[number % 2] / f"{number}.png", number)
    draw(tmp_path / "data" / "test" / "c" / "odd.png", 50)
    with pytest.raises(DataError, match=r"odd\.png \(test\) is of the class c, which no training image has"):
        load(tmp_path / "data")
    (skipped,) = load(tmp_path / "data", on_bad_sample="skip").skipped
    assert "odd.png (test) is of the class c" in skipped
