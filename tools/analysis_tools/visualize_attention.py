"""Show where the attention of DETR or Deformable DETR looks: sampling points, maps, and their sum.

python tools/analysis_tools/visualize_attention.py CONFIG CHECKPOINT image.jpg --out points.png
python tools/analysis_tools/visualize_attention.py CONFIG CHECKPOINT image.jpg --stage encoder --point 320 200
python tools/analysis_tools/visualize_attention.py CONFIG CHECKPOINT image.jpg --show total --out heat.svg

A query is named by its number, by the rank of its detection (by default 1, the best) or by a point in pixels
of the image: in the decoder the detection whose centre is nearest, in the encoder the nearest cell.
"""

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from matplotlib.figure import Figure

from projects.deformable_detr.class_check import class_names
from projects.deformable_detr.inspection.figure import check_suffix, save
from projects.deformable_detr.inspection.loading import build_model, load_weights, read_image
from projects.deformable_detr.inspection.pictures import (
    picture_map,
    picture_points,
    picture_total,
)
from projects.deformable_detr.inspection.view import View
from projects.deformable_detr.launcher import add_cfg_options, parse_config, run_tool


def main(argv: list[str] | None = None) -> None:
    """Draw as ``argv`` (by default the command line) says."""
    parser = ArgumentParser(description="Show where attention looks.")
    parser.add_argument("config", help="config file")
    parser.add_argument("checkpoint", help="checkpoint file; with --initial it is not read")
    parser.add_argument("image", help="image file")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("attention.png"),
        help="picture to write (.png, .svg or .jpg)",
    )
    parser.add_argument(
        "--show",
        choices=["points", "map", "total"],
        help="sampling points of a query (default of Deformable DETR), its map over the image (default of "
        "DETR), or the sum of all layers, heads and detections",
    )
    parser.add_argument("--stage", choices=["encoder", "decoder"], default="decoder")
    parser.add_argument("--layer", help="a number from 0, last (default) or all: a sheet")
    parser.add_argument("--head", type=int, help="show this head alone, from 0")
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument("--query", type=int, help="number of the query or cell, from 0")
    chosen.add_argument("--detection", type=int, default=1, help="rank of the detection, from 1")
    chosen.add_argument(
        "--point", type=float, nargs=2, metavar=("X", "Y"), help="in pixels of the image"
    )
    parser.add_argument(
        "--level", type=int, default=0, help="of the encoder's cell; 0 is the finest"
    )
    parser.add_argument("--score-thr", type=float, default=0.3, help="least score of a detection")
    parser.add_argument(
        "--initial",
        action="store_true",
        help="sampling points of the encoder as it is initialised, around the middle of the image unless "
        "--query or --point says where; colours tell the heads",
    )
    add_cfg_options(parser)
    args = parser.parse_args(argv)

    check_suffix(args.out)
    cfg = parse_config(args)
    model = build_model(cfg)
    if args.initial:
        args.stage, args.show, classes = "encoder", "points", None
    else:
        meta = load_weights(model, args.checkpoint)
        classes = class_names(meta.get("dataset_meta") or meta)
    view = View.of(model, read_image(cfg, args.image), classes)
    save(picture(view, args), args.out)
    print(f"saved {args.out}")


def picture(view: View, args: Namespace) -> Figure:
    """The picture that the arguments ask for."""
    show = args.show or ("points" if view.has_points(args.stage) else "map")
    layers = view.layers(args.stage, args.layer or ("all" if show == "total" else "last"))
    heads = view.heads(args.stage, args.head)
    if show == "total":
        return picture_total(view, args.stage, layers, heads, args.score_thr)
    query = find_query(view, args)
    print(f"{args.stage} query {query}")
    if show == "map":
        return picture_map(view, args.stage, layers, query, heads)
    return picture_points(view, args.stage, layers, query, heads, by_head=args.initial)


def find_query(view: View, args: Namespace) -> int:
    """The query that the arguments name."""
    if args.query is not None:
        return view.query_of_index(args.stage, args.query)
    if args.point or args.initial:
        point = torch.tensor(args.point or view.frame.size) / (1 if args.point else 2)
        return view.query_of_point(args.stage, point, args.score_thr, args.level)
    return view.query_of_rank(args.stage, args.detection, args.score_thr, args.level)


if __name__ == "__main__":
    sys.exit(run_tool(main))
