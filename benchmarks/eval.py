"""Time the COCO metric with each backend on drawn boxes, as many as COCO's val2017 has.

python benchmarks/eval.py --images 5000 --detections 100
"""

import sys
from argparse import ArgumentParser
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from time import perf_counter

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from pycocotools.coco import COCO

from projects.reliable_runner.launcher import run_tool
from projects.reliable_runner.metric.coco_metric import BACKENDS, evaluations

NUM_CLASSES, BOXES_PER_IMAGE = 80, 7  # val2017 has 36 781 boxes in 5000 images


def main(argv: list[str] | None = None) -> None:
    parser = ArgumentParser(description="Time the COCO metric's backends.")
    parser.add_argument("--images", type=int, default=5000, help="images (5000)")
    parser.add_argument("--detections", type=int, default=100, help="detections an image (100)")
    parser.add_argument("--seed", type=int, default=0, help="of the boxes (0)")
    args = parser.parse_args(argv)

    stats = []
    for backend in BACKENDS:
        rng = np.random.default_rng(args.seed)
        with redirect_stdout(StringIO()):
            truth, detections = draw(rng, args.images, args.detections)
            start = perf_counter()
            evaluation = evaluations(backend)["COCOeval"](truth, detections, "bbox")
            evaluation.params.maxDets = [100, 300, 1000]
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        print(f"{backend}: {perf_counter() - start:.1f} s, AP {evaluation.stats[0]:.6f}", flush=True)
        stats.append(evaluation.stats)
    print(f"largest difference of the twelve numbers: {np.abs(stats[0] - stats[1]).max():.1e}")


def draw(rng: np.random.Generator, num_images: int, num_detections: int) -> tuple[COCO, COCO]:
    """True boxes of all sizes, a hundredth of them crowds; detections near them and anywhere."""
    truth = COCO()
    truth.dataset = dict(
        images=[dict(id=i, width=640, height=480) for i in range(num_images)],
        categories=[dict(id=i, name=str(i)) for i in range(NUM_CLASSES)],
        annotations=[],
    )
    found = []
    for image in range(num_images):
        size = BOXES_PER_IMAGE, 2
        boxes = np.c_[rng.uniform(0, 400, size), np.exp(rng.uniform(2, 5, size))]
        labels = rng.integers(0, NUM_CLASSES, BOXES_PER_IMAGE)
        for box, label in zip(boxes.tolist(), labels.tolist(), strict=True):
            annotation = dict(id=len(truth.dataset["annotations"]) + 1, image_id=image, bbox=box)
            annotation |= dict(category_id=label, area=box[2] * box[3], iscrowd=int(rng.random() < 0.01))
            truth.dataset["annotations"].append(annotation)
        chosen = rng.integers(0, BOXES_PER_IMAGE, num_detections)
        near = boxes[chosen] + rng.normal(0, 0.1, (num_detections, 4)) * np.tile(boxes[chosen, 2:], 2)
        near[:, 2:] = near[:, 2:].clip(1)
        wrong = rng.random(num_detections) < 0.6
        classes = np.where(wrong, rng.integers(0, NUM_CLASSES, num_detections), labels[chosen])
        scores = rng.random(num_detections)
        for box, label, score in zip(near.tolist(), classes.tolist(), scores.tolist(), strict=True):
            found.append(dict(image_id=image, category_id=label, bbox=box, score=score))
    truth.createIndex()
    return truth, truth.loadRes(found)


if __name__ == "__main__":
    sys.exit(run_tool(main))
