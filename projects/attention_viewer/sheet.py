"""What a picture of attention is made of; all positions are in pixels of the original image."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
import torch
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import Colormap, ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from torch import Tensor

from projects.reliable_runner.errors import InputError

from .frame import ImageFrame

# Blue to red, without the near black at the end of "turbo".
WEIGHT_COLOURS = ListedColormap(matplotlib.colormaps["turbo"](np.linspace(0.1, 0.95, 256)))
# Heat that lets the image through where there is little.
_GLOW = matplotlib.colormaps["inferno"](np.linspace(0.25, 1, 256))
_GLOW[:, 3] = np.linspace(0, 2.5, 256).clip(max=0.75)
_CONTRAST = "#00e050"  # green, as in the paper: no map of colours here has it at its bright end
_OUTLINE = [withStroke(linewidth=2.6, foreground="black", alpha=0.7)]


def new_sheet(image: np.ndarray, titles: Sequence[str]) -> tuple[Figure, list[Axes]]:
    """A figure with the image (h, w, 3), RGB, uint8, in each of its panels, three a row, one a title."""
    h, w = image.shape[:2]
    columns = min(3, len(titles))
    rows = -(-len(titles) // columns)
    width = 6.4 if columns == 1 else 5.2
    size = (width * columns + 0.9, (width * h / w + 0.3) * rows)
    figure = Figure(figsize=size, layout="constrained")
    axes = [figure.add_subplot(rows, columns, i + 1) for i in range(len(titles))]
    for ax, title in zip(axes, titles, strict=True):
        ax.imshow(image, extent=(0, w, h, 0))
        ax.set(xlim=(0, w), ylim=(h, 0))
        ax.set_axis_off()
        ax.set_title(title, fontsize=10)
    return figure, axes


def draw_points(
    ax: Axes, points: Tensor, colours: Tensor, sizes: Tensor, cmap: Colormap, norm: Normalize
) -> Artist:
    """Sampling points (n, 2), the highest of their colours (n,) on top; areas are ``sizes``, (n,)."""
    order = colours.argsort()
    (x, y), colours, sizes = (values[order].numpy().T for values in (points, colours, sizes))
    style = dict(edgecolors="black", linewidths=0.5, zorder=3)
    return ax.scatter(x, y, c=colours, s=sizes, cmap=cmap, norm=norm, **style)


def point_size(level: Tensor | int) -> Tensor | int:
    """Area of a point on a level, from 0, the finest: the coarser, the larger."""
    return 26 + 14 * level


def draw_moves(ax: Axes, grid: Tensor, points: Tensor, colour: str) -> None:
    """Points (n, 2) and, in grey, where they are moved from."""
    ax.add_collection(LineCollection(torch.stack((grid, points), 1).numpy(), colors=colour, linewidths=1))
    for (x, y), face, size in ((grid.numpy().T, "0.75", 9), (points.numpy().T, colour, 20)):
        ax.scatter(x, y, s=size, color=face, edgecolors="black", linewidths=0.4, zorder=3)


def draw_heat(ax: Axes, heat: Tensor, frame: ImageFrame, norm: Normalize) -> Artist:
    """A map of the image without padding, (h, w), over a grey image."""
    (picture,) = ax.images
    grey = picture.get_array() @ np.array([0.299, 0.587, 0.114])
    picture.set(array=grey, cmap="gray", norm=Normalize(0, 400))  # dim, so that the heat stands out
    (left, top), (right, bottom) = frame.to_pixels(heat.new_tensor([[0, 0], [1, 1]])).tolist()
    limits = dict(xlim=ax.get_xlim(), ylim=ax.get_ylim())
    style = dict(interpolation="bilinear", cmap=ListedColormap(_GLOW), norm=norm, zorder=2)
    artist = ax.imshow(heat.numpy(), extent=(left, right, bottom, top), **style)
    ax.set(**limits)
    return artist


def draw_cross(ax: Axes, point: Tensor) -> None:
    """A reference point, (2,)."""
    for colour, size, width in (("black", 13, 4.4), (_CONTRAST, 12, 2.4)):
        style = dict(color=colour, markersize=size, markeredgewidth=width)
        ax.plot(*point.tolist(), marker="+", linestyle="", zorder=4, **style)


def draw_box(ax: Axes, box: Tensor, text: str = "") -> None:
    """A predicted box, (4,), x1, y1, x2, y2, and what it is; a thin one without a text."""
    x1, y1, x2, y2 = box.tolist()
    style = dict(fill=False, edgecolor=_CONTRAST, linewidth=1.8 if text else 0.8, zorder=2.5)
    ax.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, path_effects=_OUTLINE if text else None, **style))
    if text:
        style = dict(facecolor=_CONTRAST, edgecolor="none", pad=1.2)
        place = dict(verticalalignment="top" if y1 < 14 else "bottom", clip_on=True)
        ax.text(max(x1, 0), max(y1, 0), text, fontsize=8, color="black", bbox=style, zorder=4, **place)


def finish(
    figure: Figure, colours: Artist, label: str, num_levels: int = 1, ticks: Sequence | None = None
) -> Figure:
    """Add the scale of the colours and, for more than one level, the sizes of its points."""
    bar = figure.colorbar(colours, ax=figure.axes, label=label, aspect=30, pad=0.01, ticks=ticks)
    bar.ax.set_facecolor("0.3")  # what shows through where the colours do
    if num_levels > 1:
        style = dict(marker="o", linestyle="", color="0.75", markeredgecolor="black")
        handles = [
            Line2D([], [], markersize=point_size(level) ** 0.5, label=f"level {level}", **style)
            for level in range(num_levels)
        ]
        style = dict(ncols=num_levels, fontsize=8, frameon=False)
        figure.legend(handles=handles, loc="outside lower center", **style)
        figure.set_figheight(figure.get_figheight() + 0.3)
    return figure


def save(figure: Figure, out: Path) -> None:
    """Write a picture in the format that its suffix names; `InputError` if that can't be done."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(out, dpi=110)
    except (OSError, ValueError) as error:
        raise InputError(f"--out {out}: can't be written ({error})") from error
