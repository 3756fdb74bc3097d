"""What `make bench` writes down."""

from pathlib import Path

from benchmarks import results
from benchmarks.figure import Figure

ORDER = ["speed", "memory"]


def figure(what: str, value: float) -> Figure:
    return Figure(what, f"{value} s", None, value, 1.0, "lower", " s")


def test_a_part_measured_again_takes_the_place_of_what_stood_there(tmp_path: Path) -> None:
    path = tmp_path / "RESULTS.md"
    results.keep("memory", [figure("peak", 3.0)], ORDER, path)
    results.keep("speed", [figure("a step", 0.5), figure("a | start", 2.0)], ORDER, path)
    results.keep("memory", [figure("peak", 0.25)], ORDER, path)
    rows, machines = results.read(path)
    assert [row[:3] for row in rows] == [
        ["speed", "a step", "0.5 s"],
        ["speed", "a / start", "2.0 s"],
        ["memory", "peak", "0.25 s"],
    ]
    assert [row[6] for row in rows] == ["yes", "NO", "yes"]
    assert {row[7] for row in rows} == machines.keys()


def test_what_is_measured_no_more_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "RESULTS.md"
    results.keep("memory", [figure("peak", 3.0)], ORDER, path)
    results.keep("speed", [figure("a step", 0.5)], ["speed"], path)
    assert [row[0] for row in results.read(path)[0]] == ["speed"]
