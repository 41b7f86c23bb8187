"""Measure how sparse attention becomes in training: its negative entropy, layer by layer.

python studies/sparsity.py CONFIG work_dirs/run --out work_dirs/run/sparsity.png

After Sun et al., Rethinking Transformer-based Set Prediction for Object Detection, section 3 (arXiv
2011.10881). The numbers go into a CSV file beside the picture; docs/attention.md says what is averaged.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from mmengine.config import Config
from mmengine.utils import track_iter_progress
from torch import nn

from projects.attention_viewer.detections import predict
from projects.attention_viewer.record import record_attention
from projects.attention_viewer.sheet import save
from projects.attention_viewer.sparsity import SparsityMeter
from projects.deformable_detr.registry import DATASETS
from projects.reliable_runner.errors import InputError
from projects.reliable_runner.inference import init_detector, load_weights
from projects.reliable_runner.launcher import config_parser, positive_int, run_tool
from studies.table import write_rows


def main(argv: list[str] | None = None) -> None:
    parser = config_parser("Negative entropy of attention along checkpoints.")
    parser.add_argument("checkpoints", type=Path, nargs="+", help="checkpoint files, or folders of a run")
    what = "picture to write (.png, .svg, .jpg, ...)"
    parser.add_argument("--out", type=Path, default=Path("sparsity.png"), help=what)
    what = "images, spread over the test set (20)"
    parser.add_argument("--num-images", type=positive_int, default=20, help=what)
    args = parser.parse_args(argv)

    paths = find_checkpoints(args.checkpoints)
    detector = init_detector(args.config, None, "cpu", args.cfg_options)
    batches = read_batches(detector.cfg, args.num_images)
    rows = []
    for position, path in enumerate(paths):
        meta = load_weights(detector, path)
        print(path)
        place = dict(checkpoint=path.name, epoch=meta.get("epoch", position))
        rows += [place | row for row in measure(detector, batches)]
    rows.sort(key=lambda row: (row["stage"] == "decoder", row["layer"], row["epoch"]))
    table = args.out.with_suffix(".csv")
    write_rows(table, rows)
    save(plot(rows), args.out)
    print(f"saved {args.out} and {table}")


def find_checkpoints(paths: list[Path]) -> list[Path]:
    """The files among ``paths``, and those that a run saves in a folder; `InputError` if one has none."""
    found = []
    for path in paths:
        files = [path]
        if path.is_dir():
            files = [*path.glob("epoch_*.pth"), *path.glob("iter_*.pth")]
            files.sort(key=lambda file: int(file.stem.split("_")[1]))
        if not files:
            raise InputError(f"{path}: this folder holds no epoch_*.pth and no iter_*.pth")
        found += files
    return found


def read_batches(cfg: Config, num_images: int) -> list[dict]:
    """Images that are spread evenly over the test set, each a batch of one."""
    dataset = DATASETS.build(cfg.test_dataloader.dataset)
    chosen = np.linspace(0, len(dataset) - 1, min(num_images, len(dataset))).round().astype(int)
    return [{key: [value] for key, value in dataset[int(i)].items()} for i in chosen]


def measure(model: nn.Module, batches: list[dict]) -> list[dict]:
    """The rows of `SparsityMeter` over some images."""
    meter = SparsityMeter()
    for batch in track_iter_progress(batches):
        with record_attention(model) as record:
            predict(model, batch)
        meter.add(record)
    print()
    return meter.rows()


def plot(rows: list[dict]) -> Figure:
    """Negative entropy against epochs, a panel for each stage, a curve for each layer."""
    stages = list(dict.fromkeys(row["stage"] for row in rows))
    figure = Figure(figsize=(4.6 * len(stages), 3.6), layout="constrained")
    for ax, stage in zip(figure.subplots(1, len(stages), squeeze=False)[0], stages, strict=True):
        layers = sorted({row["layer"] for row in rows if row["stage"] == stage})
        for layer in layers:
            curve = [row for row in rows if (row["stage"], row["layer"]) == (stage, layer)]
            epochs = [row["epoch"] for row in curve]
            values = [row["negative_entropy"] for row in curve]
            colour = colormaps["Blues"](0.4 + 0.6 * layer / max(len(layers) - 1, 1))  # the deeper the darker
            ax.plot(epochs, values, "o-", markersize=3, color=colour, label=f"layer {layer}")
        even = curve[0]["even"]
        ax.axhline(even, color="grey", linestyle="--", linewidth=1, label="spread evenly")
        ax.set(title=stage, xlabel="epoch", ylim=(1.05 * even, 0))
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.grid(alpha=0.3)
        ax.legend(fontsize=8)
    figure.axes[0].set_ylabel("negative entropy (nats)")
    return figure


if __name__ == "__main__":
    sys.exit(run_tool(main))
