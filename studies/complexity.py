"""Plot what attention costs as the image grows: DETR's and deformable attention.

python studies/complexity.py --out docs/images/complexity.png

The formulas are those of the paper's section 4.1 and appendix A.1; see docs/model_zoo.md.
"""

import sys
from argparse import ArgumentParser
from math import ceil
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from matplotlib.figure import Figure

from projects.attention_viewer.sheet import save
from projects.reliable_runner.launcher import run_tool

EMBED_DIMS, NUM_HEADS, NUM_POINTS, NUM_LAYERS = 256, 8, 4, 6
ASPECT = 1333 / 800
LEVELS = {"C3 to C6": (8, 16, 32, 64), "DC5": (16,), "C5": (32,)}


def main(argv: list[str] | None = None) -> None:
    parser = ArgumentParser(description="Plot the cost of attention against the size of the image.")
    parser.add_argument("--out", type=Path, default=Path("complexity.png"), help="picture to write")
    args = parser.parse_args(argv)
    save(plot(), args.out)
    print(f"saved {args.out}")


def num_tokens(height: int, width: int, strides: tuple[int, ...]) -> int:
    """Of all levels of an image."""
    return sum(ceil(height / stride) * ceil(width / stride) for stride in strides)


def attention_cost(height: int, width: int, strides: tuple[int, ...], is_dense: bool) -> int:
    """Multiply-adds of one self-attention over the levels of an image.

    DETR's (paper, equation 1 and below): projections of queries, keys, values and output, then every token
    with every token, twice: for the weights and for the weighted sum.
    """
    tokens = num_tokens(height, width, strides)
    if is_dense:
        return 4 * tokens * EMBED_DIMS**2 + 2 * tokens**2 * EMBED_DIMS
    return deformable_attention(tokens, tokens, EMBED_DIMS, NUM_HEADS, len(strides), NUM_POINTS)


def deformable_attention(
    num_queries: int, num_keys: int, dims: int, num_heads: int, num_levels: int, num_points: int
) -> int:
    """Multiply-adds of multi-scale deformable attention (paper, appendix A.1).

    Projections of values and output; offsets and weights, 3 numbers a sample; 5 multiply-adds a sample
    and channel for interpolation and weighted sum.
    """
    samples = num_queries * num_levels * num_points
    return (num_queries + num_keys) * dims**2 + 3 * samples * num_heads * dims + 5 * samples * dims


def encoder_costs(shorter_side: int) -> dict[str, float]:
    """10^9 multiply-adds of the self-attention in six encoder layers, by kind of encoder."""
    sides = shorter_side, round(shorter_side * ASPECT)
    return {
        f"{kind} attention, {levels}": NUM_LAYERS * attention_cost(*sides, strides, kind == "DETR's") / 1e9
        for kind in ("DETR's", "deformable")
        for levels, strides in LEVELS.items()
    }


def plot() -> Figure:
    """Draw the costs over the size of the image, both axes logarithmic."""
    sides = range(320, 2401, 32)
    costs = [encoder_costs(side) for side in sides]
    styles = [(color, line) for color in ("tab:red", "tab:blue") for line in ("-", "--", ":")]
    figure = Figure(figsize=(7.6, 4.8), layout="constrained")
    ax = figure.add_subplot(xscale="log", yscale="log", ylim=(0.1, 1e6))
    for (name, cost), (color, line) in zip(encoder_costs(800).items(), styles, strict=True):
        ax.plot(sides, [cost[name] for cost in costs], color=color, linestyle=line, label=name)
        ax.plot(800, cost, "o", color=color, markersize=4)
        below = color == "tab:blue"
        place = dict(xytext=(5, -12) if below else (-5, 5), ha="left" if below else "right")
        text = f"{cost:,.0f}" if cost > 100 else f"{cost:.1f}"
        ax.annotate(text, (800, cost), textcoords="offset points", color=color, **place)
    ax.axvline(800, color="grey", linewidth=0.8, zorder=0)
    ax.text(810, 0.02, "800 x 1333", transform=ax.get_xaxis_transform(), color="grey")
    ticks = [320, 480, 640, 800, 1200, 1600, 2400]
    ax.set_xticks(ticks, map(str, ticks))
    ax.set_xticks([], minor=True)
    ax.yaxis.set_major_formatter("{x:,.7g}")
    ax.set_xlabel("shorter side of the image in pixels (longer side: 1.67 times that)")
    ax.set_ylabel("self-attention of six encoder layers,\n10$^9$ multiply-adds")
    ax.grid(alpha=0.3)
    ax.legend(title="C = 256, M = 8, K = 4", fontsize="small")
    return figure


if __name__ == "__main__":
    sys.exit(run_tool(main))
