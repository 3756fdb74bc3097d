"""What travels: the wheel, the source archive, the container image."""

import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OPTIONS = {path.relative_to(ROOT).as_posix() for path in (ROOT / "conf").rglob("*.yaml")}


def build(kind: str, source: Path, into: Path) -> Path:
    """By the build backend itself, which asks no index for anything."""
    command = [sys.executable, "-m", "hatchling", "build", "--target", kind, "--directory", str(into)]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    (built,) = into.iterdir()
    return built


def names_in(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_the_wheel_holds_all_code_and_every_option(tmp_path: Path) -> None:
    names = names_in(build("wheel", ROOT, tmp_path))
    assert {f"pipeline/{option}" for option in OPTIONS} <= names
    code = {path.relative_to(ROOT / "src").as_posix() for path in (ROOT / "src/pipeline").rglob("*.py")}
    assert code <= names
    assert not [name for name in names if name.startswith(("tests", "tools", "conf"))]


def test_the_wheel_built_from_the_source_archive_is_the_same(tmp_path: Path) -> None:
    archive = build("sdist", ROOT, tmp_path / "archive")
    with tarfile.open(archive) as file:
        file.extractall(tmp_path / "unpacked", filter="data")
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    assert (unpacked / "Makefile").exists()
    assert (unpacked / "tests/test_packaging.py").exists()
    rebuilt = names_in(build("wheel", unpacked, tmp_path / "rebuilt"))
    assert rebuilt == names_in(build("wheel", ROOT, tmp_path / "direct"))


def test_every_dependency_has_its_pin() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [
        *project["dependencies"],
        *(line for extra in project["optional-dependencies"].values() for line in extra),
    ]
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {normal(line) for line in lines if not line.startswith("#")}
    assert {normal(line) for line in wanted} <= pinned


def normal(requirement: str) -> str:
    name = re.split(r"[^\w.-]", requirement, maxsplit=1)[0]
    return re.sub(r"[-_.]+", "-", name).lower()


class TestContainerImage:
    @pytest.fixture
    def lines(self) -> list[tuple[str, str]]:
        """(instruction, the rest) of the Dockerfile, with continued lines joined."""
        text = re.sub(r"(?m)^\s*#.*\n", "", (ROOT / "docker/Dockerfile").read_text())
        joined = re.sub(r"\\\n\s*", " ", text)
        for name, default in re.findall(r"(?m)^ARG (\w+)=(\S+)$", joined):
            joined = joined.replace(f"python:${{{name}}}", f"python:{default}")
        return [(line.split()[0], line.split(maxsplit=1)[1]) for line in joined.splitlines() if line.strip()]

    def test_copies_only_what_there_is(self, lines: list[tuple[str, str]]) -> None:
        copies = [rest.split() for instruction, rest in lines if instruction == "COPY" and "--from=" not in rest]
        sources = [source for words in copies for source in words[:-1] if not source.startswith("--")]
        assert sources
        assert [source for source in sources if not (ROOT / source).exists()] == []

    def test_copies_nothing_that_is_kept_out_of_the_build(self, lines: list[tuple[str, str]]) -> None:
        let_in = [line[1:].strip("/") for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"]
        copies = [rest.split() for instruction, rest in lines if instruction == "COPY" and "--from=" not in rest]
        sources = {source.strip("/") for words in copies for source in words[:-1] if not source.startswith("--")}
        assert sources <= set(let_in)

    def test_starts_from_a_pinned_base(self, lines: list[tuple[str, str]]) -> None:
        stages = {rest.split(" AS ")[1] for instruction, rest in lines if instruction == "FROM" and " AS " in rest}
        bases = {rest.split(" AS ")[0] for instruction, rest in lines if instruction == "FROM"} - stages
        assert bases
        assert all(re.search(r":\d+\.\d+\.\d+-", base) for base in bases), bases

    def test_runs_the_program_as_a_user_without_rights(self, lines: list[tuple[str, str]]) -> None:
        last_stage = max(number for number, (instruction, _) in enumerate(lines) if instruction == "FROM")
        final = lines[last_stage:]
        assert dict(final)["USER"] not in ("0", "root")
        assert dict(final)["ENTRYPOINT"] == '["pipeline"]'

    def test_keeps_no_cache_of_pip(self, lines: list[tuple[str, str]]) -> None:
        installs = [rest for instruction, rest in lines if instruction == "RUN" and "pip install" in rest]
        assert installs
        assert all(rest.count("pip install") == rest.count("--no-cache-dir") for rest in installs)
