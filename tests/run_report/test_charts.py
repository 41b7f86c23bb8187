"""Where points are drawn, and what is told to those who do not see them."""

import re

import numpy as np
import pytest

from projects.run_report.charts import line_chart


def test_points_stand_where_the_ticks_say():
    figure = line_chart("A title", "epoch", {"one": [(0, 0), (5, 0.5), (10, 1)], "two": [(0, 1), (10, 0)]})
    ticks = {text.text: text for text in figure.iter("text")}
    marks = np.array([[float(mark.get(key)) for key in ("cx", "cy")] for mark in figure.iter("circle")])
    for row, x, y in ((0, "0", "0"), (2, "10", "1"), (3, "0", "1"), (4, "10", "0")):
        assert marks[row, 0] == float([t for t in figure.iter("text") if t.text == x][0].get("x"))
        height = [t for t in figure.iter("text") if t.text == y and t.get("text-anchor") == "end"][0]
        assert marks[row, 1] == pytest.approx(float(height.get("y")) - 4, abs=0.11)
    assert marks[1].tolist() == pytest.approx(marks[[0, 2]].mean(0), abs=0.11)
    assert "epoch" in ticks and [li[0].tail for li in figure.iter("li")] == [" one 1", " two 0"]
    (picture,) = [svg for svg in figure.iter("svg") if svg.get("role") == "img"]
    assert picture.get("aria-label") == "A title, against the epoch: one from 0 to 1; two from 1 to 0"
    assert [mark[0].text for mark in figure.iter("circle")][1] == "one, epoch 5: 0.5"


@pytest.mark.parametrize("line", [[(3, 0.25)], [(1, 0), (2, 0)], [(1, 2.0), (2, np.nan), (3, np.inf)]])
def test_lines_without_extent_or_with_nan_are_drawn(line):
    figure = line_chart("A title", "epoch", {"one": line})
    (path,) = [group[0].get("d") for group in figure.iter("g") if len(group) > 1]
    numbers = [float(x) for x in re.findall(r"[\d.-]+", path)]
    assert len(numbers) == 2 * np.isfinite([y for _, y in line]).sum()
    assert np.isfinite(numbers).all()


def test_a_line_of_nan_alone_is_told():
    figure = line_chart("A title", "epoch", {"one": [(1, np.nan), (2, np.nan)]})
    assert [li[0].tail for li in figure.iter("li")] == [" one nan"]
    places = [node.get(key) for node in figure.iter() for key in ("x", "y", "d") if node.get(key)]
    assert places and not any(word in place for place in places for word in ("nan", "inf"))
