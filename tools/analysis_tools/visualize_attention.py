"""Show where the attention of DETR or Deformable DETR looks: sampling points, maps, and their sum.

Of the backbone DAT: the points that its deformable attention moves, and what a token gives to each of them.

python tools/analysis_tools/visualize_attention.py CONFIG CHECKPOINT image.jpg --out points.png
python tools/analysis_tools/visualize_attention.py CONFIG CHECKPOINT image.jpg --stage encoder --point 320 200
python tools/analysis_tools/visualize_attention.py CONFIG CHECKPOINT image.jpg --show total --out heat.svg
python tools/analysis_tools/visualize_attention.py CONFIG CHECKPOINT image.jpg --stage backbone --show offsets
python tools/analysis_tools/visualize_attention.py CONFIG CHECKPOINT image.jpg other.jpg --html page.html

A query is named by its number, by the rank of its detection (by default 1, the best) or by a point in pixels
of the image: in the decoder the detection whose centre is nearest, elsewhere the nearest token. In a page of
HTML all that is chosen in the browser.
"""

import sys
from argparse import ArgumentParser, Namespace
from math import inf
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from matplotlib.figure import Figure
from tqdm import tqdm

from projects.attention_viewer.page import MAX_MB, add_view, image_data, page_data, write_page
from projects.attention_viewer.pictures import (
    picture_map,
    picture_offsets,
    picture_points,
    picture_shared_points,
    picture_total,
)
from projects.attention_viewer.sheet import save
from projects.attention_viewer.truth import read_truth
from projects.attention_viewer.view import View, shown_image
from projects.reliable_runner.errors import InputError
from projects.reliable_runner.files.disk_space import check_writable
from projects.reliable_runner.inference import file_name, init_detector
from projects.reliable_runner.launcher import config_parser, run_tool


def main(argv: list[str] | None = None) -> None:
    parser = config_parser("Show where attention looks.")
    parser.add_argument("checkpoint", help="checkpoint file; with --initial it is not read")
    parser.add_argument("image", nargs="+", help="image file; several with --html alone")
    parser.add_argument("--out", type=Path, default="attention.png", help="picture (.png, .svg, .jpg, ...)")
    parser.add_argument(
        "--show",
        choices=["points", "map", "total", "offsets"],
        help="sampling points of a query (default of deformable attention), its map over the image (default "
        "of DETR), the sum of all layers, heads and detections, or how the backbone moves its points",
    )
    parser.add_argument(
        "--stage", choices=["encoder", "decoder", "backbone"], help="the decoder by default, if there is one"
    )
    parser.add_argument("--layer", help="a number from 0, last (default) or all: a sheet")
    parser.add_argument("--head", type=int, help="show this head alone, from 0")
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument("--query", type=int, help="number of the query or token, from 0")
    chosen.add_argument("--detection", type=int, default=1, help="rank of the detection, from 1")
    chosen.add_argument("--point", type=float, nargs=2, metavar=("X", "Y"), help="in pixels of the image")
    parser.add_argument("--level", type=int, default=0, help="of the encoder's token; 0 is the finest")
    parser.add_argument("--score-thr", type=float, default=0.3, help="least score of a detection")
    parser.add_argument(
        "--initial",
        action="store_true",
        help="the model as it is initialised, around the middle of the image unless --query or --point says "
        "where: the encoder's points, colours tell the heads; with --stage backbone the backbone's",
    )
    page = parser.add_argument_group("a page for a browser, in which all else is chosen")
    page.add_argument("--html", type=Path, metavar="PAGE", help="write this one self-contained file (.html)")
    against_help = "show a second detector beside the first; - is one as initialised"
    page.add_argument("--against", nargs=2, metavar=("CONFIG", "CHECKPOINT"), help=against_help)
    split_help = "data set of the config that has the images, for true boxes and the pairs that losses match"
    page.add_argument("--split", choices=["train", "val", "test"], help=split_help)
    size_help = f"the most megabytes that an image takes, by leaving out tokens and queries ({MAX_MB})"
    page.add_argument("--max-mb", type=float, default=MAX_MB, help=size_help)
    args = parser.parse_args(argv)
    check_options(args, parser)

    out, option = (args.html, "--html") if args.html else (args.out, "--out")
    check_writable(out.parent, "folder of the picture", option)
    if args.html:
        make_page(args)
        return
    if args.initial:
        args.stage, args.show = args.stage or "encoder", args.show or "points"
    checkpoint = None if args.initial else args.checkpoint
    detector = init_detector(args.config, checkpoint, "cpu", args.cfg_options)
    view = View.of(detector, *args.image)
    args.stage = args.stage or ("decoder" if view.record["decoder"] else "encoder")
    check_stage(args)
    save(picture(view, args), args.out)
    print(f"saved {args.out}")


def make_page(args: Namespace) -> None:
    """Write the page that the arguments ask for; one detector at a time is in memory."""
    first = (args.config, "-" if args.initial else args.checkpoint)
    detectors = [first, args.against] if args.against else [first]
    models, images = [], []
    for config, checkpoint in detectors:
        is_initial = checkpoint == "-"
        detector = init_detector(config, None if is_initial else checkpoint, "cpu", args.cfg_options)
        name = f"{Path(config).stem}, {'as initialised' if is_initial else file_name(checkpoint)}"
        models.append(dict(name=name, classes=detector.dataset_meta["classes"]))
        if not images:
            truths = [None] * len(args.image)
            if args.split:
                truths = read_truth(detector.cfg, args.split, args.image)
            shown = (shown_image(detector, path) for path in args.image)
            images = list(map(image_data, map(file_name, args.image), shown, truths))
        for image, path, truth in zip(tqdm(images, name, unit="image"), args.image, truths, strict=True):
            add_view(image, View.of(detector, path, truth), args.max_mb, len(detectors))
    write_page(page_data(models, images, args.score_thr), args.html)
    print(f"saved {args.html} ({args.html.stat().st_size / 1e6:.1f} MB)")


def check_options(args: Namespace, parser: ArgumentParser) -> None:
    """Refuse what only a page has without one, and the other way round."""
    in_browser = ("show", "stage", "layer", "head", "query", "detection", "point", "level")
    chosen = [name for name in in_browser if getattr(args, name) != parser.get_default(name)]
    if args.html and chosen:
        raise InputError(f"--{chosen[0]}: in the page of --html it is chosen in the browser")
    if not 0 < args.max_mb < inf:
        raise InputError(f"--max-mb {args.max_mb:g}: it must be a number above 0")
    if not args.html and (args.against or args.split):
        raise InputError("--against and --split are for the page of --html")
    if not args.html and len(args.image) > 1:
        raise InputError(f"{len(args.image)} images are for the page of --html; a picture shows one")


def check_stage(args: Namespace) -> None:
    """Refuse options that the stage has not."""
    shown = {"backbone": ("points", "offsets")}.get(args.stage, ("points", "map", "total"))
    if args.show and args.show not in shown:
        raise InputError(f"--show {args.show}: of the {args.stage} there is {', '.join(shown)}")
    if args.stage == "backbone" and args.query is not None:
        raise InputError("--query: the backbone's maps differ in size; name a place with --point X Y")
    if args.initial and (args.stage == "decoder" or args.show in ("map", "total")):
        raise InputError("--initial shows the points of the encoder, or those of --stage backbone")


def picture(view: View, args: Namespace) -> Figure:
    if args.stage == "backbone":
        layers = view.layers("backbone", args.layer or ("all" if args.show == "offsets" else "last"))
        if args.show == "offsets":
            return picture_offsets(view, layers)
        point = find_point(view, args)
        print("backbone, at {:.0f} {:.0f}".format(*point.tolist()))
        return picture_shared_points(view, layers, point, args.head)
    layers = view.layers(args.stage, args.layer or ("all" if args.show == "total" else "last"))
    show = args.show or ("map" if view.record[args.stage][0].locations is None else "points")
    heads = view.heads(args.stage, args.head)
    if show == "total":
        return picture_total(view, args.stage, layers, heads, args.score_thr)
    query = find_query(view, args)
    print(f"{args.stage} query {query}")
    if show == "map":
        return picture_map(view, args.stage, layers, query, heads)
    return picture_points(view, args.stage, layers, query, heads, by_head=args.initial)


def find_query(view: View, args: Namespace) -> int:
    if args.query is not None:
        return view.query(args.stage, args.query)
    if args.stage == "encoder":
        return view.token_at(find_point(view, args), args.level)
    if args.point:
        return view.detections.nearest(find_point(view, args), args.score_thr)
    return view.detections.at_rank(args.detection, args.score_thr)


def find_point(view: View, args: Namespace) -> torch.Tensor:
    """The point that the arguments name, (2,): given, the middle of the image, or the centre of a detection.

    Raises:
        InputError: the point lies outside the image, or there are fewer detections.
    """
    (w, h), point = view.frame.size, args.point
    if point and not (0 <= point[0] <= w and 0 <= point[1] <= h):
        raise InputError("--point {:g} {:g} lies outside the image, which is {} x {}".format(*point, w, h))
    if point or args.initial:
        return torch.tensor(point or [w / 2, h / 2])
    return view.detections.centres()[view.detections.at_rank(args.detection, args.score_thr)]


if __name__ == "__main__":
    sys.exit(run_tool(main))
