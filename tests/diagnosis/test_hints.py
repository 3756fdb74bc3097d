"""A hint is a command that the configuration check accepts, or none."""

import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.config.compose import compose
from pipeline.diagnosis import advice, render
from pipeline.diagnosis.finding import Finding
from pipeline.diagnosis.inputs import DiagnosisInputs
from pipeline.lifecycle.preflight import is_accepted
from pipeline.lifecycle.summaries import logged_parameters
from pipeline.runs.run_directory import Run

RMSPROP = "_target_: torch.optim.RMSprop\n_partial_: true\nlr: 1e-3\n"
OWN = "_target_: torch.optim.Rprop\n_partial_: true\netas: [0.5, 1.2]\n"
HINTS: dict[str, Callable[[DiagnosisInputs], tuple[str, ...]]] = {
    "rate": lambda inputs: advice.scale_learning_rate(inputs, times=0.1),
    "longer": lambda inputs: advice.train_longer(inputs, times=4),
    "less": advice.less_regularization,
    "more": advice.more_regularization,
    "rare": advice.weigh_rare_classes,
    "modest": advice.soften_labels,
    "too sure": lambda inputs: advice.improve_calibration(inputs, is_overconfident=True),
    "not sure": lambda inputs: advice.improve_calibration(inputs, is_overconfident=False),
}


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "conf/optimizer").mkdir(parents=True)
    (tmp_path / "conf/optimizer/rmsprop.yaml").write_text(RMSPROP)
    (tmp_path / "conf/optimizer/own.yaml").write_text(OWN)
    monkeypatch.chdir(tmp_path)


def inputs_of(words: list[str], kind: str = "image") -> DiagnosisInputs:
    composed = compose(words)
    return DiagnosisInputs(settings=logged_parameters(composed.config, composed.choices), curves={}, kind=kind)


@pytest.mark.parametrize(
    "words, kind, expected",
    [
        (["optimizer=rmsprop"], "image", ("optimizer.lr=0.0001",)),
        (["optimizer=adamw"], "image", ("optimizer.learning_rate=0.001",)),
        (["optimizer=own"], "image", ()),
    ],
)
def test_the_learning_rate_goes_by_the_name_that_the_runs_optimiser_has_for_it(
    words: list[str], kind: str, expected: tuple[str, ...]
) -> None:
    assert advice.scale_learning_rate(inputs_of(words, kind), times=0.1) == expected


@pytest.mark.parametrize(
    "words, kind",
    [
        (["optimizer=rmsprop"], "image"),
        (["optimizer=own"], "image"),
        (["data=iris", "model=mlp"], "table"),
        (
            ["data=iris", "model=mlp", "task.loss._target_=torch.nn.CrossEntropyLoss", "task.loss.label_smoothing=0.1"],
            "table",
        ),
    ],
)
def test_what_is_suggested_is_accepted(words: list[str], kind: str) -> None:
    inputs = inputs_of(words, kind)
    for name, hint in HINTS.items():
        assert is_accepted(advice.merge_overrides(words, hint(inputs))), name


def finding_of(*overrides: str) -> Finding:
    return Finding("fault", "told", (), overrides, "advice")


@pytest.mark.parametrize(
    "overrides, is_printed",
    [
        (("optimizer.learning_rate=0.1",), False),  # the optimiser has it as lr
        (("optimizer.lr=0.1",), True),
        (("model=no_such_model",), False),
        ((), False),
    ],
)
def test_what_the_check_refuses_is_not_printed(tmp_path: Path, overrides: tuple[str, ...], is_printed: bool) -> None:
    run = Run(tmp_path / "20260101-000000-run-0000")
    run.folder.mkdir()
    (run.folder / "overrides.txt").write_text("optimizer=rmsprop\n")
    typed = render.suggested_command(run, finding_of(*overrides))
    expected = shlex.join(["pipeline", "train", "optimizer=rmsprop", *overrides]) if is_printed else None
    assert typed == expected
    assert ("```sh" in render.diagnosis_markdown(run, [(finding_of(*overrides), [])], [])) is is_printed
