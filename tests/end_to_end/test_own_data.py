"""docs/your-own-data.md, command by command, on files as it describes them."""

import random
import re
import wave
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.end_to_end.pages import commands_of, run

COMMANDS = commands_of("your-own-data.md")
TRAININGS = [line for line in COMMANDS if line.startswith("pipeline train")]


@pytest.fixture
def files(tmp_path: Path) -> Path:
    rolled, painted = random.Random(0), np.random.default_rng(0)
    for number in range(80):
        kind, suffix = ("cat", "dog")[number % 2], ("jpg", "png", "webp")[number % 3]
        place = tmp_path / "animals" / kind / f"{number:03}.{suffix}"
        place.parent.mkdir(parents=True, exist_ok=True)
        shade = painted.integers(0, 100, (40 + number % 5, 48, 3), dtype=np.uint8) + (100 if kind == "dog" else 0)
        Image.fromarray(shade.astype(np.uint8)).save(place)
    for number in range(60):
        which, speaker = number % 2, "abcde"[number // 12]
        record(tmp_path / "birds" / ("crow", "owl")[which] / f"{number:03}.wav", 300 + 900 * which, painted)
        record(tmp_path / "words" / f"{('yes', 'no')[which]}_{speaker}_{number}.wav", 300 + 900 * which, painted)
    towns = {"York": 0, "Bath": 100, "Hull": -50}
    rows = ["size,town,built,price"]
    for _ in range(120):
        size, town, year = rolled.randint(40, 200), rolled.choice(sorted(towns)), rolled.randint(1950, 2020)
        rows.append(f"{size},{town},{f'{year}-04-01' if rolled.random() < 0.9 else ''},{3 * size + towns[town]}")
    (tmp_path / "houses.csv").write_text("\n".join(rows))
    (tmp_path / "reviews").mkdir()
    words = {"good": ["lovely", "clever", "warm"], "bad": ["dull", "loud", "endless"]}
    said = [(kind, f"a {rolled.choice(words[kind])} film, the {n}th this year") for n in range(80) for kind in words]
    (tmp_path / "reviews" / "reviews.csv").write_text(
        "\n".join(["text,label", *(f'"{sentence}",{kind}' for kind, sentence in said)])
    )
    return tmp_path


def record(path: Path, hertz: int, drawn: np.random.Generator) -> None:
    """A fifth of a second, or a little more."""
    seconds = np.arange(1600 + drawn.integers(0, 400)) / 8000
    sound = 5000 * np.sin(2 * np.pi * hertz * seconds) + 500 * drawn.standard_normal(len(seconds))
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 8000, len(sound), "NONE", ""))
        file.writeframes(sound.astype("<i2").tobytes())


def test_the_page_shows_a_training_for_each_kind_of_data() -> None:
    kinds = [re.search(r"data=(\w+)", each)[1] for each in TRAININGS]  # type: ignore[index]
    assert kinds == ["image_folder", "audio_folder", "audio_folder", "table", "text_table"]


@pytest.mark.parametrize("command", TRAININGS, ids=lambda each: " ".join(each.split()[2:4]))
def test_a_command_of_the_page_trains_and_its_run_is_judged_again(command: str, files: Path) -> None:
    trained = run(command, "trainer.max_epochs=2", "tracking=none", cwd=files)
    assert trained.returncode == 0, trained.stderr
    (again,) = [line for line in COMMANDS if line.startswith("pipeline evaluate")]
    judged = run(again, cwd=files)
    assert judged.returncode == 0, judged.stderr
    scores = [re.findall(r"test/(?:accuracy|r2)\D+([-\d.]+)", each.stdout) for each in (trained, judged)]
    assert scores[0][0] == scores[1][0]


def test_data_that_changed_since_training_is_told(files: Path) -> None:
    command = next(each for each in TRAININGS if "image_folder" in each)
    assert run(command, "trainer.max_epochs=1", "tracking=none", cwd=files).returncode == 0
    Image.new("RGB", (48, 44), "red").save(files / "animals" / "cat" / "000.jpg")
    told = "has changed since it was trained: as many samples, but not the same"
    judged = run("pipeline evaluate run=latest", cwd=files)
    assert judged.returncode == 0 and f"warning: the data of {latest(files)} {told}" in judged.stdout
    resumed = run("pipeline resume run=latest trainer.max_epochs=2", cwd=files)
    assert resumed.returncode == 2 and told in resumed.stderr and f"init_from={latest(files)}" in resumed.stderr


def test_a_language_without_spaces_is_learned_by_its_characters(tmp_path: Path) -> None:
    """No word of the test part is in the training part, but every character is; chance is one half."""
    rolled = random.Random(0)
    shown = {"good": ("好看", "精彩", "动人", "有趣", "温暖"), "bad": ("难看", "无聊", "乏味", "冗长", "俗气")}
    unseen = {"good": ("好听", "精美", "感动", "趣味"), "bad": ("难听", "无味", "乏力", "漫长")}
    subjects, degrees = ("这部电影", "那部影片", "昨天的片子", "这个故事"), ("非常", "真的很", "有点", "实在太")
    for name, words, count in (("train", shown, 40), ("test", unseen, 10)):
        sentences = {
            f"{rolled.choice(subjects)}{rolled.choice(degrees)}{word}{rolled.choice(['。', '了。'])}": label
            for label, some in words.items()
            for word in some
            for _ in range(count)
        }
        rows = ["text,label", *(f"{text},{label}" for text, label in sentences.items())]
        (tmp_path / f"{name}.csv").write_text("\n".join(rows))
    asked = "data=text_table data.root=. data.source.train=train.csv data.source.test=test.csv model=text_cnn"
    trained = run(f"pipeline train {asked}", "trainer.max_epochs=10", "tracking=none", cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    accuracy = float(re.findall(r"test/accuracy\D+([-\d.]+)", trained.stdout)[0])
    assert accuracy > 0.7 and "not in the vocabulary" not in trained.stdout + trained.stderr


def latest(files: Path) -> str:
    return (files / "runs" / "latest").resolve().name
