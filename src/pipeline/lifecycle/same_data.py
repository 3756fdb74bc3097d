"""Whether a run still has the data that it was trained on."""

from typing import Any

from pipeline import run_files
from pipeline.errors import RunError
from pipeline.lifecycle.build import Assembly
from pipeline.lifecycle.resume import setting_out_from
from pipeline.runs.run_directory import Run


def change_of_data(run: Run, assembly: Assembly) -> str | None:
    """In a sentence, what is not as it was when the run set out; None where all is, or nobody can tell."""
    kept = run_files.ASSEMBLED.record_or_warn(run.folder)
    before: dict[str, Any] | None = None if kept is None else kept.get("data")
    now = assembly.spec
    if before is None or now is None or before["digest"] == now.digest:
        return None
    sizes = [
        f"{before['sizes'].get(part, 0):,} {part} samples are {size:,} now"
        for part, size in now.sizes.items()
        if before["sizes"].get(part) != size
    ]
    told = ", ".join(sizes) or "as many samples, but not the same"
    return (
        f"the data of {run.id} has changed since it was trained: {told} "
        f"(SHA-256 {before['digest'][:12]}, now {now.digest[:12]})"
    )


def check_same_data(run: Run, assembly: Assembly) -> None:
    """Raises RunError: going on with other data would be another run."""
    sentence = change_of_data(run, assembly)
    if sentence is not None:
        raise RunError(
            f"{sentence}. Put back what it was, or start a new run that sets out from its weights:\n"
            f"  {setting_out_from(run)}"
        )
