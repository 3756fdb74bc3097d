"""The parts of a page: what is escaped, where an axis begins and ends, what a chart leaves out."""

import io
import math

import numpy as np
import pytest
from PIL import Image

from pipeline.reports.charts import (
    MOST_POINTS,
    Axis,
    Line,
    axis_around,
    downsample,
    format_tick,
    line_chart,
    round_numbers,
)
from pipeline.reports.formatting import format_duration
from pipeline.reports.html import Html, element, encode_png, table


class TestMarkup:
    def test_text_is_escaped_and_html_is_not_escaped_again(self) -> None:
        inner = element("b", "<script>&")
        assert element("p", inner, " <i>") == "<p><b>&lt;script&gt;&amp;</b> &lt;i&gt;</p>"

    def test_a_value_cannot_leave_its_attribute(self) -> None:
        assert element("td", title='" onclick="x', class_="a") == '<td title="&quot; onclick=&quot;x" class="a"></td>'

    def test_what_is_none_is_left_out(self) -> None:
        assert element("p", None, "a", class_=None) == "<p>a</p>"

    def test_a_table_without_a_head_has_none(self) -> None:
        assert isinstance(table(["", ""], [["a", "1"]]), Html)
        assert "<thead>" not in table(["", ""], [["a", "1"]])


class TestAxis:
    @pytest.mark.parametrize("values", [[0.1, 0.9], [5.0, 5.0], [0.0, 0.0], [-3.0, 8.0], [1e-9, 2e-9]])
    def test_every_value_has_a_place_on_it(self, values: list[float]) -> None:
        axis = axis_around(values, 100)
        assert all(0 <= axis.position(value) <= 100 for value in values)
        assert 1 <= len(axis.ticks()) <= 6

    def test_values_over_several_powers_of_ten_are_drawn_by_their_logarithms(self) -> None:
        axis = axis_around([0.001, 2.0], 100, may_be_logarithmic=True)
        assert axis.logarithmic and set(axis.ticks()) <= {0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0}
        assert not axis_around([0.0, 2.0], 100, may_be_logarithmic=True).logarithmic  # there is none of zero

    def test_its_numbers_are_round(self) -> None:
        assert round_numbers(0, 6, 6) == [0, 1, 2, 3, 4, 5, 6]
        assert round_numbers(0.913, 0.987, 5) == [0.92, 0.94, 0.96, 0.98]
        assert [format_tick(value) for value in (0.0, 0.5, 12.0, 25_000.0, 0.00005)] == [
            "0",
            "0.5",
            "12",
            "25k",
            "5e-5",
        ]

    def test_its_ends_are_at_its_ends(self) -> None:
        assert (Axis(2, 4, 50).position(2), Axis(2, 4, 50).position(4)) == (0, 50)


class TestChart:
    def test_without_a_point_there_is_none(self) -> None:
        assert line_chart("loss", [Line("a", [], "s0"), Line("b", [(1, math.nan)], "s1")], x_label="epoch") is None

    def test_a_value_that_is_no_number_is_left_out(self) -> None:
        drawn = line_chart("loss", [Line("a", [(1, 0.5), (2, math.inf), (3, 0.4)], "s0")], x_label="epoch")
        assert drawn is not None and "nan" not in drawn.drawing and "inf" not in drawn.drawing

    def test_a_single_point_can_be_drawn(self) -> None:
        drawn = line_chart("loss", [Line("a", [(0, 0.0)], "s0", dotted=True)], x_label="epoch")
        assert drawn is not None and "nan" not in drawn.drawing and "<circle" in drawn.drawing

    def test_a_long_curve_is_thinned_and_ends_where_it_ended(self) -> None:
        points = [(float(step), math.sin(step)) for step in range(10_000)]
        few = downsample(points)
        assert len(few) <= MOST_POINTS and few[-1] == points[-1]


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3)])
def test_a_picture_reads_back_as_it_was(shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(encode_png(pixels)))), pixels)


def test_a_duration_is_told_in_its_own_unit() -> None:
    assert [format_duration(each) for each in (3.21, 75, 3 * 3600 + 120)] == ["3.2 s", "1 min 15 s", "3 h 02 min"]
