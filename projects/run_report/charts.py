"""Line charts as SVG, whose colours are those of the page, light or dark."""

from collections.abc import Sequence
from xml.etree.ElementTree import Element

import numpy as np
from matplotlib.ticker import MaxNLocator

from .markup import element

NUM_STYLES = 7  # of lines, which the page's style sheet has
_WIDTH, _HEIGHT = 480, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 12, 10, 38
_STEPS = [1, 2, 5, 10]  # of ticks
_FEW = 60  # points of a line that are marked, each with its numbers


def line_chart(
    title: str,
    x_name: str,
    series: dict[str, Sequence[tuple[float, float]]],
    limits: tuple[float, float] | None = None,
    tell_last: bool = True,
) -> Element:
    """A figure of at most `NUM_STYLES` lines, (x, y) pairs by name; ``tell_last`` adds each last value.

    The ``limits`` of the vertical axis are by default those of the values and 0.
    """
    points = np.concatenate([np.asarray(line, float).reshape(-1, 2) for line in series.values()])
    points = points[np.isfinite(points).all(1)]
    x_limits = _limits(points[:, 0])
    y_limits = limits or _limits(np.append(points[:, 1], 0))

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - x_limits[0]) / (x_limits[1] - x_limits[0])
        up = (y - y_limits[0]) / (y_limits[1] - y_limits[0])
        return _LEFT + across * (_WIDTH - _LEFT - _RIGHT), _HEIGHT - _BOTTOM - up * (_HEIGHT - _TOP - _BOTTOM)

    drawn = [
        _line(f"s{style}", name, x_name, [point for point in line if np.isfinite(point).all()], place)
        for style, (name, line) in enumerate(series.items())
    ]
    told = [f"{name} from {line[0][1]:.4g} to {line[-1][1]:.4g}" for name, line in series.items()]
    picture = element(
        "svg",
        *_axes(x_name, x_limits, y_limits, place),
        *drawn,
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        role="img",
        aria_label=f"{title}, against the {x_name}: {'; '.join(told)}",
        class_="chart",
    )
    names = [
        element("li", _sample(f"s{style}"), f" {name}" + f" {line[-1][1]:.4g}" * tell_last)
        for style, (name, line) in enumerate(series.items())
    ]
    caption = element("figcaption", element("strong", title), element("ul", *names, class_="legend"))
    return element("figure", caption, picture)


def _limits(values: np.ndarray) -> tuple[float, float]:
    low, high = (values.min(), values.max()) if len(values) else (0, 0)  # a line of NaN alone has none
    return (low, high) if low < high else (low - 0.5, low + 0.5)


def _line(style: str, name: str, x_name: str, line: Sequence[tuple[float, float]], place) -> Element:
    spots = [tuple(f"{side:.1f}" for side in place(*point)) for point in line]
    marks = [
        element("circle", element("title", f"{name}, {x_name} {x:g}: {y:.4g}"), cx=u, cy=v, r=3)
        for (x, y), (u, v) in zip(line, spots, strict=True)
    ]
    path = element("path", d="M" + "L".join(map(" ".join, spots)))
    return element("g", path, *(marks if len(marks) <= _FEW else []), class_=style)


def _sample(style: str) -> Element:
    line = element("g", element("path", d="M0 4L26 4"), class_=style)
    return element("svg", line, viewBox="0 0 26 8", class_="sample", aria_hidden="true")


def _axes(x_name: str, x_limits: tuple[float, float], y_limits: tuple[float, float], place) -> list[Element]:
    lines = []
    ticks = MaxNLocator(6, steps=_STEPS, integer=x_limits[1] > 2)
    for x in _inside(ticks.tick_values(*x_limits), x_limits):
        u, v = place(x, y_limits[0])
        lines.append(element("text", f"{x:g}", x=f"{u:.1f}", y=f"{v + 15:.1f}", text_anchor="middle"))
    for y in _inside(MaxNLocator(5, steps=_STEPS).tick_values(*y_limits), y_limits):
        u, v = place(x_limits[0], y)
        lines.append(element("path", d=f"M{u:.1f} {v:.1f}H{_WIDTH - _RIGHT}", class_="grid"))
        lines.append(element("text", f"{y:g}", x=f"{u - 6:.1f}", y=f"{v + 4:.1f}", text_anchor="end"))
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    return [*lines, element("text", x_name, x=middle, y=_HEIGHT - 5, text_anchor="middle")]


def _inside(ticks: np.ndarray, limits: tuple[float, float]) -> list[float]:
    slack = 1e-9 * (limits[1] - limits[0])
    # Rounded: what is 1e-17 would be written so.
    return [round(x, 12) for x in ticks.tolist() if limits[0] - slack <= x <= limits[1] + slack]
