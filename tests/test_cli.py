import io
import os
import pty
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import yaml

from pipeline.cli import VERBS, main
from pipeline.system.streams import print_labelled


def pipeline(*arguments: str, folder: Path | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pipeline", *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, **variables},
        timeout=60,
    )


class TestRefusals:
    @pytest.mark.parametrize(
        "arguments, expected",
        [
            (["trian"], "error: there is no verb trian\n  did you mean  pipeline train ?"),
            (["train", "model=cnnn"], "error: model=cnnn does not exist\n  did you mean  model=cnn ?"),
            (["train", "trainer.max_epoch=3"], "did you mean  trainer.max_epochs ?"),
            (["train", "optimizer.learning_rate=abc"], "expected a number above 0, such as the default 0.01"),
            (["train", "data.batch_size=0"], "expected a whole number from 1"),
            (["train", "name=a/b"], "such as  name=a-b"),
            (
                ["train", "data=table", "model=mlp"],
                "error: data.root and data.source.target have no default and must be given\n",
            ),
            (["train", "data.root=/surely/not/here"], "data.root=/surely/not/here does not exist"),
            (["train", "--inof"], "error: --inof is no option of train\n  did you mean  --info ?"),
            (["train", "--cfg", "hydra"], "invalid choice: 'hydra'"),
            (["train", "--config-name", "trian"], "did you mean  --config-name train ?"),
            (["train", "--config-dir", "/surely/not/here"], "is not a folder"),
            (["evaluate", "ran=latest"], "error: ran=latest means nothing here\n  did you mean  run= ?"),
            (["ui", "port=x"], "error: port=x: expected a number, such as port=5000"),
            (["completion", "fish"], "error: expected  pipeline completion install"),
        ],
    )
    def test_a_mistake_gets_one_message_and_exit_code_2(
        self, arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(arguments) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("error: ")
        assert expected in err

    @pytest.mark.parametrize("mistake", ["trainer.max_epochs=3.5", "data=image_folder", "data.root=nowhere"])
    def test_nothing_heavy_is_imported_and_nothing_is_left_behind(self, mistake: str, tmp_path: Path) -> None:
        code = (
            f"import sys; from pipeline.cli import main; code = main(['train', '{mistake}']);"
            "heavy = {'torch', 'pytorch_lightning', 'lightning_fabric', 'mlflow', 'kornia', 'numpy', 'rich'};"
            "print(code, sorted(heavy & set(sys.modules)))"
        )
        answer = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True, timeout=60
        )
        assert answer.stdout.strip() == "2 []"
        assert "Traceback" not in answer.stderr
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.usefixtures("empty_folder")
    def test_a_folder_that_only_the_cluster_may_have_gets_a_warning(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["train", "launch=slurm", "launch.dry_run=true", "data.root=/surely/not/here"]) == 0
        assert capsys.readouterr().err.startswith("warning: data.root=/surely/not/here is not on this machine")

    def test_a_users_own_package_is_found_in_the_working_directory(self, tmp_path: Path) -> None:
        (tmp_path / "package_of_mine.py").write_text("class Net:\n    def __init__(self, spec, width): ...\n")
        (tmp_path / "conf/model").mkdir(parents=True)
        (tmp_path / "conf/model/mine.yaml").write_text("_target_: package_of_mine.Net\nwidht: 3\n")
        mine = ["train", "model=mine", "allow_packages=[package_of_mine]"]
        program = "import sys; from pipeline.cli import main; sys.path.remove(''); sys.exit(main(sys.argv[1:]))"
        answer = subprocess.run([sys.executable, "-c", program, *mine], capture_output=True, text=True, cwd=tmp_path)
        assert answer.returncode == 2
        assert "package_of_mine.Net takes no argument widht\n  did you mean  model.width ?" in answer.stderr


class TestShowing:
    def test_cfg_job_shows_the_composed_configuration(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["train", "model=mlp", "--cfg", "job", "seed=3"]) == 0
        shown = yaml.safe_load(capsys.readouterr().out)
        assert (shown["seed"], shown["model"]["widths"]) == (3, [256, 128])
        assert shown["tracking"]["uri"] == "sqlite:///${runs_dir}/mlflow.db"

    def test_resolve_fills_interpolations_in(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["train", "--cfg", "job", "--resolve"]) == 0
        assert yaml.safe_load(capsys.readouterr().out)["tracking"]["uri"] == "sqlite:///runs/mlflow.db"

    def test_cfg_job_shows_also_what_would_be_refused(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["train", "--cfg", "job", "optimizer.learning_rate=abc"]) == 0
        assert "learning_rate: abc" in capsys.readouterr().out
        assert main(["train", "--cfg", "job", "--resolve", "data=image_folder"]) == 0
        assert "root: ???" in capsys.readouterr().out

    @pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"], ["help"]])
    def test_help_names_every_verb(self, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        assert main(arguments) == 0
        shown = capsys.readouterr().out
        assert [verb for verb in VERBS if f"  {verb} " not in shown] == []

    @pytest.mark.parametrize("verb", list(VERBS))
    def test_every_verb_names_a_function_of_its_module(self, verb: str) -> None:
        module, _, function = VERBS[verb].function.rpartition(".")
        assert callable(getattr(import_module(f"pipeline.{module}"), function))

    @pytest.mark.parametrize("verb", list(VERBS))
    def test_every_verb_shows_how_it_is_used(self, verb: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert main([verb, "--help"]) == 0
        by_option = capsys.readouterr().out
        assert main(["help", verb]) == 0
        assert capsys.readouterr().out == by_option
        assert f"pipeline {verb}" in by_option

    def test_help_of_train_comes_before_any_mistake_in_the_overrides(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["train", "model=cnnn", "--help"]) == 0
        assert "groups and their options" in capsys.readouterr().out

    def test_info_describes_options_of_the_users_own(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "more/model").mkdir(parents=True)
        (tmp_path / "more/model/mine.yaml").write_text("# A net of mine.\nwidth: 1\n")
        monkeypatch.chdir(tmp_path)
        assert main(["train", "--info", "--config-dir", "more"]) == 0
        assert "A net of mine." in capsys.readouterr().out

    @pytest.mark.parametrize("arguments", [["version"], ["--version"]])
    def test_the_version_is_told(self, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        assert main(arguments) == 0
        assert capsys.readouterr().out.startswith("pipeline ")

    def test_python_m_pipeline_is_the_same(self) -> None:
        assert pipeline("version").stdout == pipeline("--version").stdout != ""


class TestMake:
    def test_overrides_out_of_a_makefile_come_after_the_verb(self) -> None:
        answer = pipeline(
            "train",
            PIPELINE_MAKE_ARGUMENTS="name=it's\\ $$HOME model=mlp",
            PIPELINE_MAKE_ARGS="--cfg job",
            PIPELINE_MAKE_DELETIONS="",
        )
        assert answer.returncode == 2
        assert "name=it's $HOME" in answer.stderr


class TestMessages:
    def test_a_message_for_a_file_is_plain(self) -> None:
        stream = io.StringIO()
        print_labelled("error", "a does not exist\n  did you mean  b ?", stream)
        assert stream.getvalue() == "error: a does not exist\n  did you mean  b ?\n"

    @pytest.mark.parametrize("no_color", [False, True])
    def test_a_terminal_gets_colour_and_lines_that_fit(self, no_color: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("COLUMNS", "40")
        monkeypatch.delenv("NO_COLOR", raising=False)
        if no_color:
            monkeypatch.setenv("NO_COLOR", "1")
        shown = on_a_terminal("a does not exist\n  did you mean  b ?\n  all keys: " + ", ".join(["something"] * 9))
        assert ("\x1b[1;31merror:\x1b[0m a does" in shown) is not no_color
        assert ("did you mean  \x1b[1;32mb\x1b[0m ?" in shown) is not no_color
        assert all(len(line) <= 40 for line in shown.splitlines() if "\x1b" not in line)
        assert "\n    something" in shown.replace("\r", "")


def on_a_terminal(message: str) -> str:
    terminal, inside = pty.openpty()
    with open(inside, "w") as stream:
        print_labelled("error", message, stream)
    shown = os.read(terminal, 10_000).decode()
    os.close(terminal)
    return shown
