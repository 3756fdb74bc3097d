"""The Makefile, run by the make of this machine. A small program stands in for the environment's Python."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="there is no make here")

PROBE = """
import json, os, sys
from pathlib import Path
from pipeline.config.make_arguments import decode_make_arguments
arguments = decode_make_arguments(os.environ)
print(json.dumps({"command": sys.argv[1:], "arguments": arguments, "environ": dict(os.environ)}))
"""


def make(*arguments: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    # Not our own environment: these tests may themselves run below a make.
    environ = {"PATH": os.environ["PATH"], "HOME": str(folder)}
    return subprocess.run(
        ["make", *arguments], cwd=folder, env=environ, capture_output=True, text=True, timeout=60, check=False
    )


def write_program(path: Path, text: str) -> Path:
    """An executable Python program; sh starts it, because a #! line takes no path with a space."""
    path.parent.mkdir(parents=True, exist_ok=True)
    code = path.with_suffix(".py")
    code.write_text(f"import sys; sys.path.insert(0, {str(ROOT / 'src')!r})\n{text}")
    path.write_text(f'#!/bin/sh\nexec {shlex.join([sys.executable, "-S", str(code)])} "$@"\n')
    path.chmod(0o755)
    return path


def environment(folder: Path, program: str = PROBE) -> Path:
    """A folder that the Makefile takes for an environment ready for everything."""
    write_program(folder / "bin/python", program)
    for extent in ("run", "dev"):
        (folder / f".ready-{extent}").write_text(f"{ROOT.resolve()}\n")
    return folder


@pytest.fixture(scope="module")
def venv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return environment(tmp_path_factory.mktemp("an environment"))


def typed(venv: Path, *arguments: str) -> dict[str, Any]:
    """What the program sees after `make train ARGUMENTS`."""
    done = make("train", *arguments, f"VENV={venv}")
    assert done.returncode == 0, done.stderr
    seen: dict[str, Any] = json.loads(done.stdout)
    return seen


class TestOverrides:
    def test_arrive_in_the_order_typed_whatever_characters_they_hold(self, venv: Path) -> None:
        overrides = [
            *("model=mlp", "data=mnist5k", "trainer.max_epochs=5", "optimizer.learning_rate=3e-3"),
            *("model.widths=[64, 32]", "+x=1", "++y=2", "~optimizer=adamw", "empty=", "a@b.c=d", "a/b=c"),
            *("quoted='single' \"double\"", "it=it's", "dollar=$x $$x", "run=${model.width}", "percent=50%"),
            *("shell=$(touch executed)", "back=`touch executed`", "make=$(shell touch executed)"),
            *("hash=#no comment", "semicolon=; touch executed", "ampersand=a&b|c>d<e", "equals=a=b:=c+=d"),
            *("backslash=\\a\\", "tab=a\tb", "newline=a\ntouch executed\n", "unicode=é→字", "blanks=a  b  "),
            *(
                "stars=*?[a]",
                "tilde=~/x",
                "braces={a: 1, b: [c, d]}",
                "sweep=1,2,3",
                "exclamation=!x",
                "@=at",
            ),
        ]
        assert typed(venv, *overrides)["arguments"] == overrides
        assert not (ROOT / "executed").exists()

    # Only white space at a value's very beginning is lost: make drops it, as Hydra would.
    @settings(max_examples=20, deadline=None)
    @given(values=st.lists(st.text(st.characters(exclude_characters="\0", codec="utf-8")).map(str.lstrip), max_size=3))
    def test_arrive_whatever_else_they_hold(self, venv: Path, values: list[str]) -> None:
        overrides = [f"a.key{number}={value}" for number, value in enumerate(values)]
        assert typed(venv, *overrides)["arguments"] == overrides

    def test_no_part_of_a_value_is_executed_when_make_hands_on_its_variables(self, venv: Path, tmp_path: Path) -> None:
        mark = tmp_path / "executed"
        seen = typed(venv, f"name=$(shell touch {mark})", f"seed=`touch {mark}`", f"ARGS=$(shell touch {mark})")
        assert seen["arguments"][:2] == [f"name=$(shell touch {mark})", f"seed=`touch {mark}`"]
        assert not mark.exists()

    def test_that_delete_are_taken_from_the_goals(self, venv: Path) -> None:
        assert typed(venv, "~callbacks.early_stopping", "x=1", "~a/b")["arguments"] == [
            *("~callbacks.early_stopping", "~a/b", "x=1")
        ]

    def test_and_flags_that_make_would_take_for_its_own_go_into_args(self, venv: Path) -> None:
        seen = typed(venv, "ARGS=--cfg job 'name=$(touch executed) my \"run\"' N=3", "x=1")
        assert seen["arguments"] == ["x=1", "--cfg", "job", 'name=$(touch executed) my "run"', "N=3"]

    def test_of_one_name_leave_the_last_value(self, venv: Path) -> None:
        assert typed(venv, "x=1", "x=2")["arguments"] == ["x=2"]

    def test_do_not_become_environment_variables_but_names_in_capitals_do(self, venv: Path) -> None:
        environ = typed(venv, "name=x", "http_proxy=y", "CUDA_VISIBLE_DEVICES=0", "ARGS=a")["environ"]
        assert environ["CUDA_VISIBLE_DEVICES"] == "0"
        assert {name for name in environ if name.islower() or name.startswith(("MAKE", "PIPELINE"))} == set()
        assert "ARGS" not in environ


class TestGoals:
    @pytest.mark.parametrize("verb", ["train", "evaluate", "resume", "ui", "sync"])
    def test_verb_starts_the_program_of_its_name(self, venv: Path, verb: str) -> None:
        done = make(verb, "run=latest", f"VENV={venv}")
        assert json.loads(done.stdout)["command"] == ["-m", "pipeline", verb]
        assert json.loads(done.stdout)["arguments"] == ["run=latest"]

    @pytest.mark.parametrize("goal", ["trian", "a b=1", "ema", "$(shell touch executed)"])
    def test_unknown_goal_is_refused_before_anything_runs(self, venv: Path, goal: str) -> None:
        done = make("train", goal, f"VENV={venv}")
        assert (done.returncode, done.stdout) == (2, "")
        assert f'There is no target "{goal}". `make help` lists them' in done.stderr

    @pytest.mark.parametrize("goal, selected", [("test", ""), ("test-all", " -m ''")])
    def test_arguments_of_tests_go_to_pytest_after_its_own(self, venv: Path, goal: str, selected: str) -> None:
        done = make(goal, "ARGS=-k 'a or b' -x", f"VENV={venv}")
        seen = json.loads(done.stdout)
        assert seen["command"] == ["-m", "pytest"]
        assert seen["environ"]["PYTEST_ADDOPTS"] == f"-n auto --dist worksteal{selected}  -k 'a or b' -x"

    def test_arguments_of_bench_go_to_the_benchmarks(self, tmp_path: Path) -> None:
        venv = environment(tmp_path / "venv")
        path, python = shlex.quote(str(ROOT / "src")), shlex.quote(sys.executable)
        (venv / "bin/python").write_text(f'#!/bin/sh\nPYTHONPATH={path} exec {python} "$@"\n')
        folder = tmp_path / "checkout"
        folder.mkdir()
        for name in ("Makefile", "pyproject.toml"):
            shutil.copy(ROOT / name, folder)
        shutil.copytree(ROOT / "constraints", folder / "constraints")
        for extent in ("run", "dev"):
            (venv / f".ready-{extent}").write_text(f"{folder.resolve()}\n")
        (folder / "benchmarks.py").write_text("import os, sys\nprint(sys.argv[1:], 'PIPELINE_MAKE_ARGS' in os.environ)")
        done = make("bench", "ARGS=throughput --data 'my data'", f"VENV={venv}", folder=folder)
        assert done.stdout == "['throughput', '--data', 'my data'] False\n", done.stderr

    def test_failure_of_the_program_is_a_failure_of_make(self, tmp_path: Path) -> None:
        venv = environment(tmp_path / "venv", "sys.exit(1)")
        assert make("train", f"VENV={venv}").returncode == 2

    def test_interrupt_reaches_the_program(self, tmp_path: Path) -> None:
        waits = (
            "import os, time\ntry: print(os.getppid(), flush=True); time.sleep(30)\n"
            "except KeyboardInterrupt: print('saved', flush=True)"
        )
        venv = environment(tmp_path / "venv", waits)
        process = subprocess.Popen(
            ["make", "train", f"VENV={venv}"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert process.stdout is not None
        # No shell stands between make and the program.
        assert int(process.stdout.readline()) == process.pid
        os.killpg(process.pid, signal.SIGINT)
        assert process.stdout.read() == "saved\n"
        assert process.wait() != 0

    def test_help_names_every_target_and_every_configuration_group(self) -> None:
        told = make("help").stdout
        first_words = [line.split()[0] for line in told.splitlines() if line.startswith("  ")]
        verbs_and_chores = {
            "train",
            "evaluate",
            "resume",
            "ui",
            "sync",
            "setup",
            "test",
            "test-all",
            "check",
            "bench",
            "help",
        }
        assert verbs_and_chores < set(first_words)
        assert {folder.name for folder in (ROOT / "conf").iterdir() if folder.is_dir()} < set(first_words)
        assert make().stdout == told

    def test_help_lists_options_and_the_default(self) -> None:
        line = next(line for line in make("help").stdout.splitlines() if line.startswith("  data "))
        assert line.split()[:1] == ["data"] and {"fashion_mnist", "mnist", "mnist5k*"} <= set(line.split())


SET_UP = """
import os, subprocess
from pathlib import Path
if sys.argv[1] == "-c": sys.exit(0)
assert sys.argv[1] == "tools/set_up.py", sys.argv
folder, extent = Path(sys.argv[2]), sys.argv[3]
(folder / "bin").mkdir(parents=True, exist_ok=True)
(folder / "bin/python").write_text("#!/bin/sh\\necho ran\\n")
(folder / "bin/python").chmod(0o755)
for done in {"run", extent}: (folder / f".ready-{done}").write_text(os.getcwd() + "\\n")
print("set up", extent, flush=True)
"""


class TestSetUp:
    @pytest.fixture
    def checkout(self, tmp_path: Path) -> Path:
        folder = tmp_path.resolve() / "a checkout"
        folder.mkdir()
        for name in ("Makefile", "pyproject.toml"):
            shutil.copy(ROOT / name, folder)
        shutil.copytree(ROOT / "constraints", folder / "constraints")
        return folder

    @pytest.fixture
    def run(self, checkout: Path, tmp_path: Path) -> Callable[..., str]:
        python = write_program(tmp_path / "some python/python3", SET_UP)

        def run(goal: str, folder: Path = checkout) -> str:
            done = make(goal, f"PYTHON={python}", folder=folder)
            assert done.returncode == 0, done.stderr
            return done.stdout

        return run

    def test_happens_once_and_only_as_far_as_needed(self, run: Callable[..., str]) -> None:
        outputs = [run("train"), run("train"), run("test"), run("test"), run("setup"), run("evaluate")]
        assert outputs == ["set up run\nran\n", "ran\n", "set up dev\nran\n", "ran\n", "", "ran\n"]

    @pytest.mark.parametrize("name", ["pyproject.toml", "constraints/run.txt"])
    def test_happens_again_when_what_it_installs_has_changed(
        self, run: Callable[..., str], checkout: Path, name: str
    ) -> None:
        run("train")
        later = time.time() + 10
        os.utime(checkout / name, (later, later))
        assert run("train") == "set up run\nran\n"

    def test_happens_again_in_a_moved_checkout(self, run: Callable[..., str], checkout: Path) -> None:
        run("train")
        moved = checkout.rename(checkout.with_name("moved"))
        assert run("train", moved) == "set up run\nran\n"

    def test_says_what_to_install_when_python_is_too_old(self, checkout: Path, tmp_path: Path) -> None:
        old = tmp_path / "python3"
        old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.9.2\nexit 1\n')
        old.chmod(0o755)
        done = make("train", f"PYTHON={old}", folder=checkout)
        assert done.returncode == 2
        assert "Python 3.11 or newer is needed; found: Python 3.9.2" in done.stderr
        assert "apt install python3 python3-venv" in done.stderr
