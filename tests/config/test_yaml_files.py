"""Files of the user's own that are no configuration."""

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.cli import main

NET = "_target_: pipeline.models.mlp.MLP\n"
BOMB = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"a{level}: &a{level} [{','.join([f'*a{level - 1}'] * 10)}]\n" for level in range(1, 9)
)


@pytest.mark.parametrize(
    "content, expected",
    [
        (b"- a\n- b\n", "mine.yaml holds a list; expected keys and values, such as\n  _target_: my_package.MyNet"),
        (b"just text\n", "mine.yaml holds the value just text"),
        (b"5\n", "mine.yaml holds the value 5"),
        (b"", "model names no class"),
        (b"# only a comment\n", "model names no class"),
        (b"model:\n  width: 3\n", "model.model does not exist"),
        (NET.encode() + b"\twidths: [1]\n", "found character '\\t' that cannot start any token"),
        (NET.encode() + b"widths: [1]\nwidths: [2]\n", "found duplicate key widths"),
        (NET.encode() + b"name: \xff\n", "mine.yaml, line 2: byte 0xff is no UTF-8"),
        (b"a: " + b"[" * 5000 + b"]" * 5000, "mine.yaml is nested more than 50 deep"),
        (BOMB.encode(), "mine.yaml stands for more than 100,000 values"),
        (b"a: " + b"x" * 2_000_000, "mine.yaml has 2,000,003 bytes"),
        (b"1: 2\n" + NET.encode(), "mine.yaml: the key 1 is no text; expected a name"),
        (b"defaults: 5\n", "expected a list of configurations"),
        (b"defaults: [mine]\n", "comes back to it: model/mine -> model/mine"),
        (b"defaults: [nosuch]\n", "model=nosuch does not exist"),
        (b"a: *nowhere\n", "found undefined alias"),
        (b"a: !!python/object/apply:os.system [ls]\n", "could not determine a constructor"),
        (b"a: 1\n---\nb: 2\n", "expected a single document"),
        (b"\x00\x01", "unacceptable character"),
    ],
)
def test_an_option_that_is_no_configuration_is_refused(
    content: bytes, expected: str, elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = elsewhere / "conf/model/mine.yaml"
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    assert main(["train", "model=mine"]) == 2
    assert expected in capsys.readouterr().err


@pytest.mark.parametrize(
    "content",
    [
        "_target_: pytorch_lightning.callbacks.EarlyStopping\nmonitor: val/loss\npatience: 3\n",
        "_target_: pytorch_lightning.callbacks.EarlyStopping\n",
    ],
)
@pytest.mark.parametrize("choice", ["callbacks=mine", "callbacks=[default,mine]"])
def test_a_callback_without_a_name_is_refused_with_the_form_of_one(
    content: str, choice: str, elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = elsewhere / "conf/callbacks/mine.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(content)
    assert main(["train", choice]) == 2
    assert "expected a name of your choice, and below it a class, such as\n  my_callback:\n" in capsys.readouterr().err


@pytest.mark.parametrize("make", [lambda path: path.mkdir(), lambda path: path.symlink_to("nowhere")])
def test_what_is_no_file_is_no_option(make, elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = elsewhere / "conf/model/mine.yaml"
    file.parent.mkdir(parents=True)
    make(file)
    assert main(["train", "model=mine"]) == 2
    assert "model=mine does not exist" in capsys.readouterr().err
    assert main(["train", "--info"]) == 0


@pytest.mark.parametrize("content", ["- train\n", "defaults: [train]\n", "\udcff", "defaults: 3\n"])
def test_a_primary_configuration_is_looked_at_too(content: str, elsewhere: Path) -> None:
    (elsewhere / "conf").mkdir()
    (elsewhere / "conf/train.yaml").write_bytes(content.encode(errors="surrogateescape"))
    answer = subprocess.run([sys.executable, "-m", "pipeline", "train"], capture_output=True, text=True, timeout=60)
    assert answer.returncode == 2
    assert "Traceback" not in answer.stderr and "conf/train.yaml" in answer.stderr


@pytest.mark.parametrize("verb", [["ui"], ["search", "dashboard"]])
@pytest.mark.parametrize("port", ["99999", "0", "-1", "x"])
@pytest.mark.usefixtures("elsewhere")
def test_a_port_that_there_is_not_is_refused(verb: list[str], port: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*verb, f"port={port}"]) == 2
    assert f"port={port}: expected" in capsys.readouterr().err
