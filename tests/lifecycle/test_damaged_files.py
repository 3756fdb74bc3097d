"""Every file of a run directory, damaged in every way, under every verb: a sentence, and never a traceback."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline import run_files
from pipeline.cli import main
from pipeline.config import compose
from pipeline.runs.run_directory import Run
from pipeline.tracking import journal

TRAIN = ("data=iris", "model=mlp", "model.widths=[4]", "trainer.max_epochs=2", "tracking=none", "name=whole")
LATER = ("launch=slurm", "launch.dry_run=true")
FILES = ("config.yaml", "overrides.txt", "environment.json", "assembled.json", "result.json", "job.json", "sync.json")
FILES = (*FILES, "journal.jsonl", "predictions.npz", "../.claims/whole.json")
VERBS: dict[str, tuple[str, ...]] = {
    "runs": ("runs",),
    "show": ("runs", "show", "RUN"),
    "logs": ("logs", "RUN"),
    "report": ("report", "run=RUN"),
    "compare": ("compare", "runs=RUN,OTHER"),
    "sync": ("sync", "run=RUN"),
    "sync all": ("sync", "run=all"),
    "register": ("register", "run=RUN", "name=model"),
    "ui": ("ui", "run=RUN"),
    "cancel": ("cancel", "RUN"),
    "resume": ("resume", "run=RUN", "trainer.max_epochs=4"),
    "auto_resume": ("train", *TRAIN, "trainer.max_epochs=4", "auto_resume=true", *LATER),
}
ALWAYS_REFUSED = ("register", "ui", "cancel")  # of a finished run that went to no MLflow
# Without which file a verb has nothing to work on; any other costs a warning at most.
NEEDED = {
    "show": {"config.yaml"},
    "logs": {"config.yaml"},
    "report": {"config.yaml", "assembled.json", "journal.jsonl"},
    "compare": {"assembled.json", "journal.jsonl", "predictions.npz"},
    "sync": {"config.yaml"},
    "resume": {"config.yaml"},
    "auto_resume": {"config.yaml", "../.claims/whole.json"},
}
# Of which a verb needs no content, but a plain file in their place.
WRITTEN = {
    "show": {"journal.jsonl"},
    "logs": {"journal.jsonl"},
    "resume": {"job.json", "journal.jsonl"},
    "auto_resume": {"job.json", "journal.jsonl"},
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two runs; the first has a claim on its name."""
    folder = tmp_path_factory.mktemp("trained")
    for words in ((*TRAIN, "auto_resume=true"), (*TRAIN, "name=other", "seed=1")):
        subprocess.run([sys.executable, "-m", "pipeline", "train", *words], cwd=folder, check=True, capture_output=True)
    (whole,) = (folder / "runs").glob("*-whole-*")
    config = Run(whole).config()
    config.launch = compose.compose(list(LATER)).config.launch  # so that a resume starts no process
    Run(whole).write_config(compose.to_yaml(config), Run(whole).overrides())
    (whole / "job.json").write_text('{"launcher": "slurm", "job": null}')
    (whole / "sync.json").write_text(
        '{"uri": "sqlite:///x", "experiment_id": "1", "mlflow_run_id": "abc", "offset": 0, "files_offset": 0, "status":'
        ' null, "metrics": 0, "infinite": 0, "refused": 0, "problem": null}'
    )
    return folder


@pytest.fixture
def copy(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The first run, in a copy of the folder, which is the working directory."""
    shutil.copytree(trained, tmp_path / "copy", symlinks=True)
    monkeypatch.chdir(tmp_path / "copy")
    run_files.warn_once.cache_clear()
    (run,) = (tmp_path / "copy" / "runs").glob("*-whole-*")
    return run


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: max(path.stat().st_size // 2, 1)])


def zero_filled(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def with_zeros(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 3] + bytes(512) + content[len(content) // 3 :])


def holding(content: bytes) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(content) and None


def replaced_by_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def replaced_by_a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def replaced_by_a_link_to_itself(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


def replaced_by_a_link_outside(path: Path) -> None:
    elsewhere = path.parents[3] / f"elsewhere-{path.name}"
    shutil.move(path, elsewhere)
    path.symlink_to(elsewhere)


DAMAGES: dict[str, Callable[[Path], None]] = {
    "emptied": emptied,
    "cut": cut,
    "zero-filled": zero_filled,
    "with zeros": with_zeros,
    "a list": holding(b"[]"),
    "an empty object": holding(b"{}"),
    "a word": holding(b"word"),
    "a number": holding(b"7"),
    "null": holding(b"null"),
    "no UTF-8": holding(b"\xff\xfe{}"),
    "too deep": holding(b"[" * 200_000),
    "a huge number": holding(b'{"status": 1' + b"0" * 400 + b"}"),
    "of other types": holding(b'{"status": [], "metrics": 3, "seconds": "x", "run": 5, "tracking": [], "name": {}}'),
    "a folder": replaced_by_a_folder,
    "a pipe": replaced_by_a_pipe,
    "a link to itself": replaced_by_a_link_to_itself,
    "a link outside": replaced_by_a_link_outside,
}
# The quick ones go through every file, every damage and every verb; the slow ones through every combination.
QUICK = {(name, "cut") for name in FILES} | {("config.yaml", damage) for damage in DAMAGES}


@pytest.mark.parametrize(
    "name, damage",
    [
        pytest.param(name, damage, marks=() if (name, damage) in QUICK else pytest.mark.slow)
        for name in FILES
        for damage in DAMAGES
    ],
)
def test_a_damaged_file_costs_what_is_in_it_and_no_more(
    copy: Path, capfd: pytest.CaptureFixture[str], name: str, damage: str
) -> None:
    DAMAGES[damage](copy / name)
    (other,) = copy.parent.glob("*-other-*")
    for verb, words in VERBS.items():
        run_files.warn_once.cache_clear()
        typed = [word.replace("RUN", copy.name).replace("OTHER", other.name) for word in words]
        code = main(typed)
        said = capfd.readouterr()
        assert "Traceback" not in said.out + said.err, (verb, said)
        if verb in ALWAYS_REFUSED:
            assert code == 2, (verb, said)
            continue
        if verb == "runs":
            assert other.name in said.out
        is_needed = name in NEEDED.get(verb, ()) or (name in WRITTEN.get(verb, ()) and not is_plain(copy / name))
        if is_needed and not is_partly_whole(copy / name):
            assert code == 2 and Path(name).name in said.err, (verb, said)
        elif verb == "sync all":
            assert code == int(name == "config.yaml") and f"{other.name}: tracking=none" in said.out, (verb, said)
        else:
            assert code == 0, (verb, said)


def is_plain(path: Path) -> bool:
    """A file or nothing; job.json is replaced, so that a link or a pipe there does no harm."""
    return not path.is_dir() if path.name == "job.json" else path.is_file() and not path.is_symlink()


def is_partly_whole(path: Path) -> bool:
    """A journal of which the beginning is left, lines of which are."""
    if path.name != "journal.jsonl":
        return False
    return is_plain(path) and any(record["kind"] == "start" for record, _ in journal.read_journal(path))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["environment.json", "assembled.json", "result.json", "job.json", "sync.json"])
def test_a_value_of_another_type_anywhere_in_a_file_is_no_traceback(
    copy: Path, capfd: pytest.CaptureFixture[str], name: str
) -> None:
    whole = json.loads((copy / name).read_text())
    for changed in mutations(whole):
        (copy / name).write_text(json.dumps(changed))
        for verb in ("show", "report", "resume"):
            run_files.warn_once.cache_clear()
            code = main([word.replace("RUN", copy.name) for word in VERBS[verb]])
            assert code in (0, 2), (verb, changed)
            assert "Traceback" not in capfd.readouterr().err


def mutations(value: Any) -> Iterator[Any]:
    """The same with one value in it changed, for each value."""
    yield from (None, [], {}, "word", -1, 10**400, float("nan"), [[]], {"a": {}}, "\x1b[31m\0", True)
    if isinstance(value, dict):
        for key, inner in value.items():
            yield {name: kept for name, kept in value.items() if name != key}
            for changed in mutations(inner) if not isinstance(inner, list) else mutations(None):
                yield {**value, key: changed}


def test_damaged_lines_of_the_journal_are_skipped(copy: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = copy / "journal.jsonl"
    records = {record["kind"]: record for record, _ in journal.read_journal(path)}
    before = journal.metric_history(path)
    records |= {
        kind: {"kind": kind, "time": 1, **shape} for kind, shape in (("resume", {"step": 1}), ("tags", {"tags": {}}))
    }
    lines = [changed for record in records.values() for changed in mutations(record) if not is_whole(changed)]
    with path.open("ab") as file:
        file.writelines(json.dumps(line).encode() + b"\n" for line in lines)
        file.writelines([b"\0" * 5000 + b"\n", b"\n", b"[" * 100_000 + b"\n", b"\xff\n", b'{"kind":NaN,"time":1}\n'])
        file.write(b"x" * 100)  # torn
    assert journal.metric_history(path) == before
    for verb in ("show", "logs", "report", "compare", "resume", "auto_resume"):
        (other,) = copy.parent.glob("*-other-*")
        assert main([word.replace("RUN", copy.name).replace("OTHER", other.name) for word in VERBS[verb]]) == 0, verb
        assert "Traceback" not in capfd.readouterr().err


def is_whole(changed: Any) -> bool:
    """As good as a record of ours."""
    return journal.parse_record(json.dumps(changed).encode()) is not None
