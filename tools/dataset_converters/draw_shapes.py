"""Draw a small COCO-format data set: coloured shapes of several sizes on noisy backgrounds.

    python tools/dataset_converters/draw_shapes.py data/shapes --num-train 800 --num-val 200 --size 128

writes ``annotations/{train,val}.json``, ``train/*.png`` and ``val/*.png``. The same arguments give the
same files.
"""

import argparse
import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

CLASSES = ("circle", "square", "triangle")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out_dir", type=Path, help="where to write the data set")
    parser.add_argument("--num-train", type=int, default=800, help="number of training images")
    parser.add_argument("--num-val", type=int, default=200, help="number of held-out images")
    parser.add_argument("--size", type=int, default=128, help="side of the images in pixels")
    parser.add_argument("--max-shapes", type=int, default=6, help="in an image; the least is one")
    what = "least and largest side of a shape in pixels (10 and half of --size); log-uniform between"
    parser.add_argument("--sides", nargs=2, type=int, metavar=("LEAST", "LARGEST"), help=what)
    parser.add_argument("--seed", type=int, default=0, help="decides all that is random")
    args = parser.parse_args()
    for number, (split, num_images) in enumerate((("train", args.num_train), ("val", args.num_val))):
        seed = 2 * args.seed + number
        num_boxes = draw_split(args.out_dir, split, num_images, args.size, seed, args.max_shapes, args.sides)
        print(f"{args.out_dir / split}: {num_images} images, {num_boxes} shapes")


def draw_split(
    out_dir: Path,
    split: str,
    num_images: int,
    size: int,
    seed: int,
    max_shapes: int = 6,
    sides: tuple[int, int] | None = None,
) -> int:
    """Draw images of ``size`` pixels (at least 32) a side and their annotations; return how many shapes."""
    sides = sides or (10, size / 2)
    rng = np.random.default_rng(seed)
    for folder in (out_dir / split, out_dir / "annotations"):
        folder.mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    for image_id in range(1, num_images + 1):
        name = f"{image_id:06d}.png"
        picture, shapes = draw_image(rng, size, max_shapes, sides)
        picture.save(out_dir / split / name)
        images.append(dict(id=image_id, file_name=name, width=size, height=size))
        for category_id, (x, y, side) in shapes:
            annotation = dict(id=len(annotations) + 1, image_id=image_id, category_id=category_id)
            annotations.append(dict(annotation, bbox=[x, y, side, side], area=side * side, iscrowd=0))
    categories = [dict(id=i, name=name) for i, name in enumerate(CLASSES, 1)]
    coco = dict(images=images, annotations=annotations, categories=categories)
    (out_dir / "annotations" / f"{split}.json").write_text(json.dumps(coco))
    return len(annotations)


def draw_image(
    rng: np.random.Generator, size: int, max_shapes: int, sides: tuple[float, float]
) -> tuple[Image.Image, list]:
    """One image and its shapes as (category id, (x, y, side)), boxes that the shape fills."""
    base = rng.integers(0, 256, 3)
    noise = rng.normal(0, 25, (size, size, 3))
    picture = Image.fromarray(np.clip(base + noise, 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    shapes = []
    for x, y, side in place_boxes(rng, size, sides, num_boxes=int(rng.integers(1, max_shapes + 1))):
        category_id = int(rng.integers(1, len(CLASSES) + 1))
        colour = rng.integers(0, 256, 3)
        while np.abs(colour - base).sum() < 150:  # told apart from the background
            colour = rng.integers(0, 256, 3)
        draw_shape(draw, CLASSES[category_id - 1], (x, y, side), tuple(map(int, colour)))
        shapes.append((category_id, (x, y, side)))
    return picture, shapes


def place_boxes(
    rng: np.random.Generator, size: int, sides: tuple[float, float], num_boxes: int
) -> Iterator[tuple[int, int, int]]:
    """Squares (x, y, side) inside the image, none on another; sides are log-uniform."""
    placed: list[tuple[int, int, int]] = []
    for _ in range(20 * num_boxes):
        if len(placed) == num_boxes:
            return
        side = int(round(math.exp(rng.uniform(*map(math.log, sides)))))
        x, y = (int(v) for v in rng.integers(0, size - side, 2))
        if all(
            x + side <= x2 or x2 + side2 <= x or y + side <= y2 or y2 + side2 <= y for x2, y2, side2 in placed
        ):
            placed.append((x, y, side))
            yield x, y, side


def draw_shape(
    draw: ImageDraw.ImageDraw, name: str, box: tuple[int, int, int], colour: tuple[int, ...]
) -> None:
    """Fill one shape that touches all four sides of its box."""
    x, y, side = box
    right, bottom = x + side - 1, y + side - 1
    if name == "circle":
        draw.ellipse((x, y, right, bottom), fill=colour)
    elif name == "square":
        draw.rectangle((x, y, right, bottom), fill=colour)
    else:
        draw.polygon(((x + right) / 2, y, right, bottom, x, bottom), fill=colour)


if __name__ == "__main__":
    main()
