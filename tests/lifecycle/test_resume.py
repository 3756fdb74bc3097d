"""What a run that cannot be gone on with is told to do instead."""

import shlex
from pathlib import Path

from pipeline.lifecycle.resume import new_run_command
from pipeline.runs.run_directory import Run


def test_the_command_for_a_new_run_is_what_a_shell_reads_as_it_was_typed(tmp_path: Path) -> None:
    typed = ["data.root=my words", 'data.source.pattern="{label}_{index}.wav"']
    (tmp_path / "overrides.txt").write_text("".join(f"{override}\n" for override in typed))
    command = shlex.split(new_run_command(Run(tmp_path), "model.widths=[16, 32]"))
    assert command == ["pipeline", "train", *typed, "model.widths=[16, 32]", f"init_from={tmp_path.name}"]
