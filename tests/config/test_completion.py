import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.config.completion import SCRIPTS, candidates, install_completion
from pipeline.errors import ConfigError

VERBS = ["train", "evaluate", "completion", "help"]


@pytest.mark.parametrize(
    "line, expected",
    [
        ("pipeline tr", ["train "]),
        ("pipeline completion ", ["bash ", "zsh ", "install "]),
        ("pipeline train mod", ["model="]),
        ("pipeline train model", ["model=", "model."]),
        ("pipeline train optimizer=", ["optimizer=adamw ", "optimizer=sgd "]),
        ("pipeline train 'model=m", ["model=mlp "]),
        ("pipeline train trainer.max_e", ["trainer.max_epochs="]),
        ("pipeline train trainer.max_epochs=", ["trainer.max_epochs=10 "]),
        ("pipeline train trainer.deterministic=", ["trainer.deterministic=true ", "trainer.deterministic=false "]),
        ("pipeline train model=mlp model.batch", ["model.batch_norm="]),
        ("pipeline train model.batch", []),
        ("pipeline train data.tr", ["data.train_fraction="]),
        ("pipeline train data=table data.source.ta", ["data.source.target="]),
        ("pipeline train data=table data.source.target=", []),
        ("pipeline train callbacks=[default,em", ["callbacks=[default,ema"]),
        ("pipeline train callbacks=[ema] callbacks.", ["callbacks.ema."]),
        ("pipeline train callbacks.early", ["callbacks.early_stopping."]),
        ("pipeline train ~callbacks.early", ["~callbacks.early_stopping "]),
        ("pipeline train see", ["seed="]),
        ("pipeline train --cfg ", ["job "]),
        ("pipeline train --inf", ["--info "]),
        ("pipeline train --config-name ", ["train "]),
        ("pipeline train nothing.like.this", []),
    ],
)
def test_a_line_is_continued(line: str, expected: list[str]) -> None:
    assert candidates(line, VERBS) == expected


def test_groups_and_keys_of_the_top_stand_side_by_side() -> None:
    found = candidates("pipeline train ", VERBS)
    assert {"model=", "data=", "experiment=", "seed=", "name="} <= set(found)


def test_options_of_the_users_own_are_offered(elsewhere: Path) -> None:
    (elsewhere / "conf/model").mkdir(parents=True)
    (elsewhere / "conf/model/theirs.yaml").write_text("depth_of_theirs: 1\n")
    assert candidates("pipeline train model=th", VERBS) == ["model=theirs "]
    assert candidates("pipeline train model=theirs model.", VERBS) == ["model.depth_of_theirs="]


def test_runs_are_offered_to_the_verbs_that_start_from_one(elsewhere: Path) -> None:
    (elsewhere / "runs/20260101-000000-cnn-mnist5k-ab12").mkdir(parents=True)
    (elsewhere / "runs/20260101-000000-cnn-mnist5k-ab12/config.yaml").touch()
    assert candidates("pipeline evaluate ru", VERBS) == ["run=", "runs_dir="]
    assert candidates("pipeline evaluate run=", VERBS) == ["run=20260101-000000-cnn-mnist5k-ab12 "]


def test_a_broken_file_only_costs_its_own_keys(elsewhere: Path) -> None:
    (elsewhere / "conf/model").mkdir(parents=True)
    (elsewhere / "conf/model/theirs.yaml").write_text("a: [1\n")
    assert candidates("pipeline train model=theirs model.", VERBS) == []


def test_nothing_heavy_is_imported_for_an_answer() -> None:
    code = (
        "import sys; from pipeline.cli import main; main(['completion', 'candidates', 'pipeline train trainer.']);"
        "print([name for name in ('hydra', 'omegaconf', 'torch', 'rich') if name in sys.modules], file=sys.stderr)"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stderr.strip() == "[]"
    assert "trainer.max_epochs=" in answer.stdout


@pytest.fixture
def command(tmp_path: Path) -> Path:
    """A folder with a program `pipeline` in it."""
    program = tmp_path / "bin" / "pipeline"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m pipeline "$@"\n')
    program.chmod(0o755)
    return program.parent


@pytest.mark.parametrize(
    "line, expected",
    [
        ("pipeline train mod", "[model=]"),
        ("pipeline train model=c", "[cnn ]"),
        ("pipeline train optimizer=", "[adamw ][sgd ]"),
        ("pipeline train 'model=c", "[model=cnn]"),
        ("pipeline train callbacks=[default,em", "[[default,ema]"),
        ("pipeline train trainer.max_e", "[trainer.max_epochs=]"),
    ],
)
@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash here")
def test_bash_is_given_what_it_will_replace(command: Path, line: str, expected: str) -> None:
    script = (
        f'PATH="{command}:$PATH"; source <(pipeline completion bash); COMP_LINE="$1"; COMP_POINT=${{#1}}; '
        "_pipeline pipeline; printf '[%s]' \"${COMPREPLY[@]}\""
    )
    answer = subprocess.run(["bash", "-c", script, "bash", line], capture_output=True, text=True, check=True)
    assert answer.stdout == expected


@pytest.mark.skipif(shutil.which("zsh") is None, reason="there is no zsh here")
def test_zsh_can_read_its_script() -> None:
    assert subprocess.run(["zsh", "-n"], input=SCRIPTS["zsh"], text=True, check=False).returncode == 0


class TestInstall:
    def test_bash_finds_the_script_where_bash_completion_looks(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
        monkeypatch.delenv("BASH_COMPLETION_USER_DIR", raising=False)
        monkeypatch.setenv("SHELL", "/bin/bash")
        assert "open a new shell" in install_completion()
        assert (tmp_path / "bash-completion/completions/pipeline").read_text() == SCRIPTS["bash"]

    def test_zsh_is_told_of_the_folder_once(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.delenv("ZDOTDIR", raising=False)
        (tmp_path / ".zshrc").write_text("alias x=y\n")
        install_completion("zsh")
        install_completion("zsh")
        assert (tmp_path / ".zfunc/_pipeline").read_text() == SCRIPTS["zsh"]
        assert (tmp_path / ".zshrc").read_text().startswith("alias x=y\n")
        assert (tmp_path / ".zshrc").read_text().count("fpath+=~/.zfunc") == 1

    def test_another_shell_is_refused_with_a_remedy(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SHELL", "/usr/bin/fish")
        with pytest.raises(ConfigError, match="not for fish\n  to choose one  pipeline completion install bash"):
            install_completion()

    def test_a_place_that_cannot_be_written_is_told(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "file").touch()
        monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "file"))
        monkeypatch.delenv("BASH_COMPLETION_USER_DIR", raising=False)
        with pytest.raises(ConfigError, match="cannot write"):
            install_completion("bash")


def test_after_search_come_the_words_that_look_at_one_and_their_names(empty_folder: Path) -> None:
    (empty_folder / "runs/searches/mine").mkdir(parents=True)
    (empty_folder / "runs/searches/mine/config.yaml").write_text("")
    assert candidates("pipeline search sho", ["search"]) == ["show "]
    assert candidates("pipeline search show ", ["search"]) == ["runs_dir=", "mine "]
