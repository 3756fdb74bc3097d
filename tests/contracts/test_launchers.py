"""What every launcher keeps. Each YAML file in conf/launch is found by itself; one with settings that it cannot do
without has a line `# example: launch.image=... launch.nodes=2`, and is tried with these; /shared in it stands for the
folder of the runs.
"""

import re
import shlex
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from tests.test_architecture import HEAVY, imported_by

from pipeline.config import instantiate
from pipeline.config.compose import compose
from pipeline.config.search_path import option_groups, shipped_folder
from pipeline.errors import ConfigError, RunError
from pipeline.launch import job_record
from pipeline.launch.launcher import Launcher, Resources

OPTIONS = option_groups([shipped_folder()])["launch"]
SUBMITTING = [option for option in OPTIONS if "dry_run" in compose([f"launch={option}"]).config.launch]
RUNNING_HERE = [option for option in OPTIONS if option not in SUBMITTING]
TELLS_ITS_PLACE = (
    "import pathlib, sys; from pipeline.system.process import process_rank; "
    "pathlib.Path(sys.argv[1]).write_text(str(process_rank()))"
)
BUILDS_AND_RUNS = """
import sys
from pathlib import Path
from pipeline.config import instantiate
from pipeline.config.compose import compose
config = compose({overrides!r}).config
launcher = instantiate.instantiate(config.launch, config)
asked = launcher.resources(devices="auto", accelerator="cpu", num_nodes=1)
folder = Path({folder!r})
code = launcher.run([sys.executable, "-c", ""], asked, folder)
assert code == 0, code
launcher.state(folder)
"""


def overrides(option: str, runs_dir: Path) -> list[str]:
    text = (shipped_folder() / "launch" / f"{option}.yaml").read_text(encoding="utf-8")
    example = re.search(r"^# example: (.+)$", text, re.MULTILINE)
    dry = ["launch.dry_run=true"] if option in SUBMITTING else []
    words = shlex.split(example[1].replace("/shared", str(runs_dir))) if example else []
    return [f"launch={option}", *words, *dry]


def built(option: str, folder: Path) -> Launcher:
    """As for a run in this directory."""
    config = compose(overrides(option, folder.parent)).config
    launcher: Launcher = instantiate.instantiate(config.launch, config)
    return launcher


def resources(launcher: Launcher) -> Resources:
    return launcher.resources(devices="auto", accelerator="cpu", num_nodes=1)


def answer(launcher: Launcher, folder: Path) -> str:
    """To who wants to cancel."""
    try:
        return launcher.cancel(folder)
    except RunError as refusal:
        return str(refusal)


@pytest.fixture
def own_signals() -> Iterator[None]:
    """A launcher that runs something here hands signals on, and does not stop to."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "runs/20260131-120000-cnn-mnist5k-1a2b"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def nothing_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No cluster's command is on the PATH."""
    monkeypatch.setenv("PATH", str(tmp_path))


@pytest.mark.parametrize("option", OPTIONS)
def test_every_launcher_has_processes_for_its_example(option: str, folder: Path) -> None:
    given = resources(built(option, folder))
    assert given.nodes >= 1 and given.processes_per_node >= 1


@pytest.mark.parametrize("option", OPTIONS)
def test_nodes_that_a_launcher_cannot_provide_are_refused_with_what_to_type(option: str, folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"num_nodes=77.*launch(\.\w+)?=\w+"):
        built(option, folder).resources(devices="auto", accelerator="cpu", num_nodes=77)


@pytest.mark.usefixtures("nothing_installed")
@pytest.mark.parametrize("option", SUBMITTING)
def test_a_dry_run_starts_nothing_and_says_what_to_type(
    option: str, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    launcher, marker = built(option, folder), folder / "started"
    before = psutil.Process().children()
    assert launcher.run(["touch", str(marker)], resources(launcher), folder) == 0
    assert psutil.Process().children() == before and not marker.exists()
    said = [line for line in capfd.readouterr().out.splitlines() if folder.name in line]
    assert said[0].split() == ["run", str(folder)]
    assert len(said) > 1, "what to type names the run's directory, or a file in it"
    facts = job_record.read_job_record(folder)
    assert facts is not None and facts["launcher"] == option
    assert launcher.state(folder) is None


@pytest.mark.usefixtures("nothing_installed")
@pytest.mark.parametrize("option", OPTIONS)
def test_a_directory_without_a_launched_run_is_reported(option: str, folder: Path) -> None:
    launcher = built(option, folder)
    assert launcher.state(folder) is None
    assert answer(launcher, folder)


@pytest.mark.parametrize("option", OPTIONS)
def test_launching_imports_nothing_heavy(option: str, folder: Path) -> None:
    code = BUILDS_AND_RUNS.format(overrides=overrides(option, folder.parent), folder=str(folder))
    assert not imported_by(code, folder) & HEAVY


@pytest.mark.usefixtures("own_signals")
@pytest.mark.parametrize("option", RUNNING_HERE)
@pytest.mark.parametrize("code", [0, 2, 75])
def test_a_local_process_gets_its_rank_and_its_exit_code_is_returned(option: str, code: int, folder: Path) -> None:
    tells = [sys.executable, "-c", f"{TELLS_ITS_PLACE}; sys.exit({code})", str(folder / "place")]
    assert built(option, folder).run(tells, Resources(1, 1), folder) == code
    assert (folder / "place").read_text() == "Rank(rank=0, world_size=1, local_rank=0, local_world_size=1)"
