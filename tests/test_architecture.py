"""The rules of the house that no tool checks. Who may import whom: import-linter, in `make check`."""

import ast
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src/pipeline"
MODULES = sorted(SOURCE.rglob("*.py"))
HEAVY = {"torch", "pytorch_lightning", "torchmetrics", "kornia", "mlflow", "matplotlib", "numpy"}
# A file is one subject, a function one screen; past these it is time to divide.
MAX_LINES_OF_A_FILE = 500
MAX_LINES_OF_A_FUNCTION = 50
NAMES_THAT_SAY_NOTHING = {"utils", "util", "helpers", "helper", "manager", "base", "common", "misc"}


def imported_by(code: str, folder: Path) -> set[str]:
    """The packages that a new Python has imported after this code, run in this folder."""
    report = "import json, sys; print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("COV_", "PYTEST"))}
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{report}"],
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def command(*arguments: str) -> str:
    return f"from pipeline.cli import main\ncode = main({list(arguments)!r})\n"


class TestNothingHeavyIsImported:
    def test_by_the_command_line_itself(self, tmp_path: Path) -> None:
        assert not imported_by("import pipeline.cli", tmp_path) & (HEAVY | {"hydra", "omegaconf"})

    @pytest.mark.parametrize(
        "arguments", [["--help"], ["train", "--help"], ["train", "--info"], ["train", "--cfg", "job"]]
    )
    def test_to_show_help_or_a_configuration(self, tmp_path: Path, arguments: list[str]) -> None:
        assert not imported_by(command(*arguments) + "assert code == 0, code", tmp_path) & HEAVY

    @pytest.mark.parametrize("mistake", ["modle=mlp", "model=nlp", "data.batch_sze=3", "data.batch_size=abc"])
    def test_to_refuse_a_mistake(self, tmp_path: Path, mistake: str) -> None:
        code = command("train", mistake) + "assert code == 2, code"
        assert not imported_by(code, tmp_path) & HEAVY
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("verb", ["sync", "report", "ui", "chaos", "register", "evaluate", "diagnose", "compare"])
    def test_to_refuse_a_mistyped_argument_of_another_verb(self, tmp_path: Path, verb: str) -> None:
        mistake = "kills=many" if verb == "chaos" else "ran=latest"  # other keys are those of the training
        code = command(verb, mistake) + "assert code == 2, code"
        assert not imported_by(code, tmp_path) & (HEAVY | {"hydra", "omegaconf", "psutil", "sqlite3"})

    @pytest.mark.parametrize("launcher", ["slurm", "torchrun"])
    def test_to_submit_to_a_cluster(self, tmp_path: Path, launcher: str) -> None:
        code = command("train", f"launch={launcher}", "launch.dry_run=true") + "assert code == 0, code"
        assert not imported_by(code, tmp_path) & HEAVY
        assert len(list((tmp_path / "runs").iterdir())) == 1

    def test_to_list_runs_and_show_one(self, tmp_path: Path) -> None:
        made = command("train", "launch=slurm", "launch.dry_run=true")
        listed = command("runs") + "assert code == 0, code\n"
        shown = "import os\n" + "code = main(['runs', 'show', os.listdir('runs')[0]])\nassert code == 0, code"
        assert not imported_by(made + listed + shown, tmp_path) & HEAVY

    @pytest.mark.parametrize("verb", ["sync", "sync run=all", "ui"])
    def test_to_refuse_what_another_users_run_asks_for(self, tmp_path: Path, verb: str) -> None:
        made = command("train", "launch=slurm", "launch.dry_run=true", "tracking.uri=http://127.0.0.1:9")
        code = made + "import pathlib; [path.unlink() for path in pathlib.Path().glob('runs/*/seal.txt')]\n"
        code += "run = 'run=' + os.listdir('runs')[0]\n" if "all" not in verb else "run = 'runs_dir=runs'\n"
        code += f"code = main([*{verb.split()!r}, run])\nassert code == 2, code"
        assert not imported_by("import os\n" + code, tmp_path) & HEAVY

    def test_before_a_process_of_a_run_has_set_its_signal_handlers(self, tmp_path: Path) -> None:
        assert not imported_by("import pipeline.lifecycle.training_process", tmp_path) & HEAVY

    def test_to_submit_to_kubernetes(self, tmp_path: Path) -> None:
        volumes = f"launch.volumes={{{tmp_path}: claim}}"
        code = command("train", "launch=kubernetes", "launch.image=image", volumes, "launch.dry_run=true")
        assert not imported_by(code + "assert code == 0, code", tmp_path) & HEAVY


def test_any_module_can_be_imported_first_and_prints_and_writes_nothing(tmp_path: Path) -> None:
    names = [
        ".".join(("pipeline", *path.relative_to(SOURCE).with_suffix("").parts))
        for path in MODULES
        if path.name not in ("__init__.py", "__main__.py")
    ]
    code = f"""
import importlib, sys
for name in {names!r}:
    for module in [module for module in sys.modules if module.partition(".")[0] == "pipeline"]:
        del sys.modules[module]
    importlib.import_module(name)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert list(tmp_path.iterdir()) == []


def test_every_folder_with_modules_is_a_package_whose_imports_are_checked() -> None:
    folders = {path.parent for path in MODULES if "templates" not in path.parts}
    assert [str(folder) for folder in sorted(folders) if not (folder / "__init__.py").exists()] == []


def test_every_package_file_is_empty_but_the_one_that_knows_old_names() -> None:
    assert [str(path) for path in MODULES if path.name == "__init__.py" and path.read_text()] == [
        str(SOURCE / "__init__.py")
    ]


def test_imports_are_absolute() -> None:
    imports = [(path, node) for path in MODULES for node in ast.walk(parsed(path)) if isinstance(node, ast.ImportFrom)]
    assert [f"{path}:{node.lineno}" for path, node in imports if node.level > 0] == []


def test_a_name_says_what_is_inside() -> None:
    assert [str(path) for path in MODULES if path.stem in NAMES_THAT_SAY_NOTHING] == []


def test_a_file_is_a_small_room() -> None:
    lines = {str(path.relative_to(SOURCE)): len(path.read_text().splitlines()) for path in MODULES}
    assert {path: count for path, count in lines.items() if count > MAX_LINES_OF_A_FILE} == {}


def test_contributors_read_the_rows_that_the_imports_are_checked_against() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    rows = [row.replace("(", "").replace(")", "") for row in contracts[0]["layers"] if "__main__" not in row]
    assert "\n".join(["```", *rows, "```"]) in (ROOT / "CONTRIBUTING.md").read_text()


def test_a_function_fits_on_a_screen() -> None:
    functions = [
        (f"{path.relative_to(SOURCE)}:{node.name}", (node.end_lineno or node.lineno) - node.lineno + 1)
        for path in MODULES
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    assert {name: count for name, count in functions if count > MAX_LINES_OF_A_FUNCTION} == {}


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def test_no_module_and_no_public_name_stands_twice_in_the_package() -> None:
    """`main` is what a process of its own runs; commands/train.py starts what lifecycle/train.py does."""
    places: dict[str, list[str]] = {}
    for path in MODULES:
        if path.name.startswith("__") or "templates" in path.parts:
            continue
        named = [node for node in parsed(path).body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
        for name in (f"{path.stem}.py", *(node.name for node in named)):
            places.setdefault(name, []).append(str(path.relative_to(SOURCE)))
    twice = {name: paths for name, paths in places.items() if len(paths) > 1 and not name.startswith("_")}
    assert twice.keys() - {"main", "train.py"} == set(), twice
