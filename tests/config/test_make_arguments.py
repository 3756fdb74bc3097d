"""The decoding alone. tests/test_makefile.py sends the same things through a real make."""

import pytest

from pipeline.config.make_arguments import decode_make_arguments
from pipeline.errors import ConfigError


def test_overrides_come_back_in_the_order_typed() -> None:
    assert decode_make_arguments({"PIPELINE_MAKE_ARGUMENTS": "c=3 b=2 a=1"}) == ["a=1", "b=2", "c=3"]


def test_makes_quoting_is_undone() -> None:
    environ = {"PIPELINE_MAKE_ARGUMENTS": r"list=[64,\ 32] path=C:\\a\\ name=$${model.width} tab=a" + "\\\tb"}
    assert decode_make_arguments(environ) == [
        "tab=a\tb",
        "name=${model.width}",
        "path=C:\\a\\",
        "list=[64, 32]",
    ]


def test_names_in_capitals_stay_with_make() -> None:
    environ = {"PIPELINE_MAKE_ARGUMENTS": "ARGS=-x VENV=.venv CUDA_VISIBLE_DEVICES=0 PYTHON:=p T_0=1 Ab=1 model.T=2"}
    assert decode_make_arguments(environ) == ["model.T=2", "Ab=1"]


def test_deletions_come_first_and_further_arguments_last() -> None:
    environ = {
        "PIPELINE_MAKE_ARGUMENTS": "x=1",
        "PIPELINE_MAKE_DELETIONS": "~callbacks.early_stopping ~a/b",
        "PIPELINE_MAKE_ARGS": """--cfg job 'name=my run' "q=it's" $(touch x) `touch x`""",
    }
    assert decode_make_arguments(environ) == [
        *("~callbacks.early_stopping", "~a/b"),
        "x=1",
        *("--cfg", "job", "name=my run", "q=it's", "$(touch", "x)", "`touch", "x`"),
    ]


def test_nothing_of_make_is_left_for_the_programs_we_start() -> None:
    makes = {"MAKEFLAGS": " -- x=1", "MAKELEVEL": "1", "MFLAGS": "-w", "PIPELINE_MAKE_DELETIONS": ""}
    environ = {"PATH": "/bin", "CUDA_VISIBLE_DEVICES": "0", "PIPELINE_MAKE_ARGUMENTS": "x=1", **makes}
    decode_make_arguments(environ)
    assert environ == {"PATH": "/bin", "CUDA_VISIBLE_DEVICES": "0"}


def test_without_make_there_are_no_arguments() -> None:
    assert decode_make_arguments({"PATH": "/bin"}) == []


def test_a_quote_that_is_never_closed_is_refused_with_an_example() -> None:
    with pytest.raises(ConfigError, match=r"close each quote, as in ARGS=\"--cfg job"):
        decode_make_arguments({"PIPELINE_MAKE_ARGS": "name='my run"})
