"""Measure what self-attention costs as the image grows: DETR's and deformable attention, beside the formulas.

python studies/cost.py --out docs/images/cost.png

One layer of an encoder without its FFN, one square image, inference. Dotted are the formulas: multiply-adds
(studies/complexity.py) at one pace, that of deformable attention on the largest image, and the tensors that
`kept_mib` counts. Each measurement is a process of its own. The numbers go into a CSV file beside the
picture.
"""

import sys
from argparse import ArgumentParser
from math import ceil
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from benchmarks.timing import in_own_process, median_seconds
from projects.attention_viewer.sheet import save
from projects.deformable_detr.attention import MultiScaleDeformableAttention
from projects.deformable_detr.levels import Levels
from projects.reliable_runner.launcher import positive_int, run_tool
from projects.reliable_runner.training.log_processor import peak_resident_mb
from studies.complexity import EMBED_DIMS, NUM_HEADS, NUM_POINTS, attention_cost, num_tokens
from studies.table import write_rows

STRIDES = {"DETR": (32,), "DETR-DC5": (16,), "deformable, C3 to C6": (8, 16, 32, 64)}
COLORS = ("tab:orange", "tab:red", "tab:blue")
SIDES = [128, 256, 400, 640, 1024, 1600]


def main(argv: list[str] | None = None) -> None:
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sides", nargs="+", type=positive_int, default=SIDES, help="of images, in pixels")
    parser.add_argument("--rounds", type=positive_int, default=5, help="of which the median is taken")
    parser.add_argument("--threads", type=positive_int, default=1, help="of the CPU")
    parser.add_argument("--out", type=Path, default=Path("cost.png"), help="picture to write")
    args = parser.parse_args(argv)

    rows = []
    for name in STRIDES:
        for side in args.sides:
            seconds, mib = in_own_process(measure, name, side, args.rounds, args.threads)
            rows.append(dict(attention=name, side=side, seconds=seconds, mib=mib))
            rows[-1]["multiply_adds"] = attention_cost(side, side, STRIDES[name], name.startswith("DETR"))
            rows[-1]["formula_mib"] = round(kept_mib(name, side), 2)
            print(f"{name}, {side} x {side}: {seconds:.4f} s, {mib:.0f} MiB", flush=True)
    write_rows(args.out.with_suffix(".csv"), rows)
    save(plot(rows), args.out)
    print(f"saved {args.out} and {args.out.with_suffix('.csv')}")


def measure(name: str, side: int, rounds: int, threads: int) -> tuple[float, float]:
    """Median seconds of a forward, and by how many MiB it raises the peak of the process."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    sizes = [ceil(side / stride) for stride in STRIDES[name]]
    query = torch.randn(1, sum(size**2 for size in sizes), EMBED_DIMS)
    if name.startswith("DETR"):
        # As in DETR's and mmdet's code, where the weights of all pairs are kept.
        attention = nn.MultiheadAttention(EMBED_DIMS, NUM_HEADS, batch_first=True).eval()
        inputs = dict(query=query, key=query + 1, value=query)
    else:
        attention = MultiScaleDeformableAttention(EMBED_DIMS, NUM_HEADS, len(sizes), NUM_POINTS).eval()
        levels = Levels.of_masks([torch.zeros(1, size, size, dtype=torch.bool) for size in sizes], False)
        references = torch.rand(1, query.shape[1], len(sizes), 2)
        inputs = dict(query=query, query_pos=query, value=query, reference_points=references, levels=levels)

    def run() -> Tensor:
        with torch.inference_mode():
            return attention(**inputs)

    before = peak_resident_mb()
    return median_seconds(run, rounds), peak_resident_mb() - before


def kept_mib(name: str, side: int) -> float:
    """MiB of what is there at once: four tensors of tokens, and the weights before and after the softmax.

    Of dense attention a weight for each pair of tokens; of deformable attention one for each sample, with the
    two offsets that become its location.
    """
    tokens = num_tokens(side, side, STRIDES[name])
    if name.startswith("DETR"):
        numbers = 2 * NUM_HEADS * tokens**2
    else:
        numbers = 2 * 3 * NUM_HEADS * tokens * len(STRIDES[name]) * NUM_POINTS
    return (4 * EMBED_DIMS * tokens + numbers) * 4 / 2**20


def plot(rows: list[dict]) -> Figure:
    """Draw seconds and memory over the side, with the formulas beside them, all axes logarithmic."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    seconds, memory = figure.subplots(1, 2)
    pace = rows[-1]["seconds"] / rows[-1]["multiply_adds"]
    for name, color in zip(STRIDES, COLORS, strict=True):
        of_name = [row for row in rows if row["attention"] == name]
        sides = [row["side"] for row in of_name]
        seconds.plot(sides, [row["seconds"] for row in of_name], "o-", color=color, label=name)
        seconds.plot(sides, [pace * row["multiply_adds"] for row in of_name], ":", color=color)
        memory.plot(sides, [max(row["mib"], 1) for row in of_name], "o-", color=color, label=name)
        memory.plot(sides, [row["formula_mib"] for row in of_name], ":", color=color)
    for ax, label in ((seconds, "seconds"), (memory, "peak memory of the layer, MiB")):
        ax.plot([], [], ":", color="grey", label="by the formula")
        ax.set(xscale="log", yscale="log", xlabel="height and width in pixels", ylabel=label)
        ax.set_xticks(sides, map(str, sides))
        ax.set_xticks([], minor=True)
        ax.grid(alpha=0.3)
        ax.legend(fontsize="small")
    return figure


if __name__ == "__main__":
    sys.exit(run_tool(main))
