"""Renews constraints/: python tools/lock.py [--upgrade]    (needs uv: pip install uv)

Writes the exact version of every package, with the SHA-256 of each of its files, for every machine and Python that
the project runs on. Without --upgrade a version that is pinned already stays, if pyproject.toml admits it.
"""

import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
FOLDER = CHECKOUT / "constraints"
DEV_EXTRAS = ("dev", "dashboard", "kubernetes", "search", "server")
MODEL_EXTRAS = ("timm", "transformers")
BUILD = ("hatchling", "editables")  # what an editable installation of this package is built with
SERVER = ("mlflow", "boto3", "Flask-WTF", "psycopg[binary]")
OF_TORCH = re.compile(r"(torch|triton|nvidia-[\w-]+|cuda-[\w-]+)==")
HEADERS = {
    "torch": "torch as PyPI has it, with its CUDA packages. A CPU build is not listed: it has an index of its own.",
    "run": "What the package needs at run time, and to be built; torch apart.",
    "dev": "What tests, checks and the optional extras need beyond run.txt.",
    "models": "What model=timm and model=hugging_face need beyond run.txt and torch.txt.",
    "audit": "What looks the lists up among the known vulnerabilities (.github/workflows/audit.yml).",
    "server": "What the image of the tracking server holds (docker/mlflow.Dockerfile); all of it, by itself.",
}


def main(upgrade: bool) -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    of_extra = project["optional-dependencies"]
    run_needs = [*project["dependencies"], *BUILD]
    dev_needs = [*run_needs, *(line for extra in DEV_EXTRAS for line in of_extra[extra])]
    model_needs = [*run_needs, *(line for extra in MODEL_EXTRAS for line in of_extra[extra])]

    # All in one first, so that no two lists differ in a version.
    everything = resolve([*dev_needs, *model_needs], [] if upgrade else pins_of(FOLDER.glob("*.txt")))
    pins = [block.partition(" ")[0] for block in everything]
    run, dev = resolve(run_needs, pins), resolve(dev_needs, pins)
    write("torch", [block for block in run if OF_TORCH.match(block)])
    write("run", [block for block in run if not OF_TORCH.match(block)])
    write("dev", [block for block in dev if block not in run])
    write("models", [block for block in resolve(model_needs, pins) if block not in run])
    write("server", resolve(SERVER, pins))
    write("audit", resolve(["pip-audit"], pins))


def resolve(needs: Iterable[str], pins: Iterable[str]) -> list[str]:
    """A block of lines for each package: its pin, then its hashes."""
    with tempfile.TemporaryDirectory() as temporary:
        wanted, pinned = Path(temporary) / "wanted.in", Path(temporary) / "pinned.txt"
        wanted.write_text("\n".join(needs))
        pinned.write_text("\n".join(pins))
        command = [
            "uv",
            "pip",
            "compile",
            "--quiet",
            "--universal",
            "--generate-hashes",
            "--no-annotate",
            "--no-header",
        ]
        command += ["--python-version", "3.11", "--constraint", str(pinned), str(wanted)]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return re.split(r"\n(?=\w)", text.strip())


def pins_of(files: Iterable[Path]) -> list[str]:
    return [pin for file in files for pin in re.findall(r"^\S+==[^\s;\\]+", file.read_text(), re.MULTILINE)]


def write(name: str, blocks: Iterable[str]) -> None:
    lines = [f"# {HEADERS[name]}", "# Made by tools/lock.py; pip installs it with --require-hashes --no-deps.", *blocks]
    (FOLDER / f"{name}.txt").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main(upgrade="--upgrade" in sys.argv[1:])
