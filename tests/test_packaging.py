"""What travels: the wheel, the source archive, the container image."""

import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

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
    pinned = {normal(block) for blocks in LISTS.values() for block in blocks}
    assert {normal(line) for line in wanted} <= pinned


def blocks_of(listed: Path) -> list[str]:
    """Of each package its pin, with the lines of its hashes."""
    return [block for block in re.split(r"(?m)^(?=\S)", listed.read_text()) if block and block[0] != "#"]


LISTS = {path.stem: blocks_of(path) for path in (ROOT / "constraints").glob("*.txt")}


@pytest.mark.parametrize("name", LISTS)
def test_every_listed_package_has_one_version_and_the_hashes_of_its_files(name: str) -> None:
    wrong = r"(?!\S+==[\w.]+( ; [^\\\n]+)?( \\\n    --hash=sha256:[0-9a-f]{64})+\n$)"
    assert LISTS[name]
    assert [block for block in LISTS[name] if re.match(wrong, block)] == []


def test_no_two_lists_differ_in_a_version() -> None:
    pins: dict[str, set[str]] = {}
    for blocks in LISTS.values():
        for block in blocks:
            pins.setdefault(normal(block), set()).add(re.split(r"[\s;]", block)[0])
    assert {name: versions for name, versions in pins.items() if len(versions) > 1} == {}


def normal(requirement: str) -> str:
    name = re.split(r"[^\w.-]", requirement, maxsplit=1)[0]
    return re.sub(r"[-_.]+", "-", name).lower()


PINNED_IMAGE = r"\S+:[\w.-]+@sha256:[0-9a-f]{64}"


class TestContainerImage:
    @pytest.fixture
    def lines(self) -> list[tuple[str, str]]:
        """(instruction, the rest) of the Dockerfile, with continued lines joined."""
        text = re.sub(r"(?m)^\s*#.*\n", "", (ROOT / "docker/Dockerfile").read_text())
        joined = re.sub(r"\\\n\s*", " ", text)
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
        assert all(re.fullmatch(PINNED_IMAGE, base) for base in bases), bases

    def test_installs_only_files_of_known_hashes_and_the_cpu_build_of_torch(self, lines: list[tuple[str, str]]) -> None:
        installs = [each for _, rest in lines for each in rest.split("pip install")[1:]]
        unchecked = [each for each in installs if "--require-hashes" not in each and "--no-index" not in each]
        assert len(installs) == 4
        assert len(unchecked) == 1 and "https://download.pytorch.org/whl/cpu" in unchecked[0]

    def test_runs_the_program_as_a_user_without_rights(self, lines: list[tuple[str, str]]) -> None:
        last_stage = max(number for number, (instruction, _) in enumerate(lines) if instruction == "FROM")
        final = lines[last_stage:]
        assert int(dict(final)["USER"]) > 0  # a number: Kubernetes cannot tell of a name that it is not root's
        assert dict(final)["ENTRYPOINT"] == '["pipeline"]'

    def test_keeps_no_cache_of_pip(self, lines: list[tuple[str, str]]) -> None:
        installs = [rest for instruction, rest in lines if instruction == "RUN" and "pip install" in rest]
        assert installs
        assert all(rest.count("pip install") == rest.count("--no-cache-dir") for rest in installs)


class TestTrackingServer:
    """What docker/compose.yaml starts."""

    @pytest.fixture
    def services(self) -> dict[str, Any]:
        read: dict[str, Any] = yaml.safe_load((ROOT / "docker/compose.yaml").read_text())["services"]
        return read

    def test_its_containers_can_neither_change_themselves_nor_gain_rights(self, services: dict[str, Any]) -> None:
        for name, service in services.items():
            assert service["read_only"] is True, name
            assert service["cap_drop"] == ["ALL"], name
            assert service["security_opt"] == ["no-new-privileges:true"], name
            assert service["mem_limit"] and service["pids_limit"], name
            assert set(service.get("cap_add", [])) <= {"CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID"}, name
            assert not service.get("privileged"), name

    def test_its_images_are_pinned_by_digest_or_built_from_one_that_is(self, services: dict[str, Any]) -> None:
        built = re.findall(r"(?m)^FROM (\S+)", (ROOT / "docker/mlflow.Dockerfile").read_text())
        pulled = [service["image"] for service in services.values() if "build" not in service]
        assert len(pulled) == 2 and len(built) == 1
        assert [image for image in [*pulled, *built] if re.fullmatch(PINNED_IMAGE, image) is None] == []


WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_runs_actions_of_a_known_commit_and_may_only_read(workflow: Path) -> None:
    read = yaml.safe_load(workflow.read_text())
    steps = [step for job in read["jobs"].values() for step in job["steps"]]
    actions = [step["uses"] for step in steps if "uses" in step]
    assert actions
    assert [action for action in actions if re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", action) is None] == []
    assert read["permissions"] == {"contents": "read"}
    assert not [job for job in read["jobs"].values() if "permissions" in job]
