"""The command for a new run that is suggested where a run cannot be resumed."""

import shlex
from pathlib import Path

from pipeline.lifecycle.resume import new_run_command
from pipeline.runs.run_directory import Run


def new_run_arguments(folder: Path, typed: list[str], *overrides: str) -> list[str]:
    (folder / "overrides.txt").write_text("".join(f"{override}\n" for override in typed))
    return shlex.split(new_run_command(Run(folder), *overrides))


def test_a_shell_reads_the_command_for_a_new_run_as_it_was_typed(tmp_path: Path) -> None:
    typed = ["data.root=my words", 'data.source.pattern="{label}_{index}.wav"']
    command = new_run_arguments(tmp_path, typed, "model.widths=[16, 32]")
    assert command == ["pipeline", "train", *typed, "model.widths=[16, 32]", f"init_from={tmp_path.name}"]


def test_the_command_for_a_new_run_does_not_resume_the_old_one_by_its_name(tmp_path: Path) -> None:
    command = new_run_arguments(tmp_path, ["name=mine", "auto_resume=true", "seed=1"], "seed=2")
    assert command == ["pipeline", "train", "name=mine", "seed=1", "seed=2", f"init_from={tmp_path.name}"]
