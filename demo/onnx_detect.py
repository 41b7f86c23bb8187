"""Detect objects with an exported ONNX file and numpy, pillow and onnxruntime alone.

python demo/onnx_detect.py detector.onnx photo.jpg
"""

import ast
import json
from argparse import ArgumentParser

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

KNOWN_STEPS = {"LoadImageFromFile", "Resize", "LoadAnnotations", "PackDetInputs"}


def resize_rows(pixels: np.ndarray, size: int) -> np.ndarray:
    """Bilinear along the first axis, as OpenCV does it: pillow would smooth too."""
    old = len(pixels)
    place = np.clip((np.arange(size) + 0.5) * old / size - 0.5, 0, old - 1)
    first = place.astype(int)
    share = (place - first)[:, None, None]
    return pixels[first] * (1 - share) + pixels[np.minimum(first + 1, old - 1)] * share


def resized(size: tuple[int, int], steps: list[dict]) -> tuple[int, int]:
    """Width and height that a test pipeline gives to an image of ``size``."""
    if others := {step["type"] for step in steps} - KNOWN_STEPS:
        raise SystemExit(f"the test pipeline has steps that this example does not know: {', '.join(others)}")
    for step in steps:
        if step["type"] == "Resize":
            scale = step.get("scale") or [int(side * step["scale_factor"] + 0.5) for side in size]
            if step.get("keep_ratio"):
                factor = min(max(scale) / max(size), min(scale) / min(size))
                scale = [int(side * factor + 0.5) for side in size]
            size = tuple(scale)
    return size


def detect(path: str, image: Image.Image) -> list[tuple[str, float, list[float]]]:
    """Find objects: class, score, [x1, y1, x2, y2] in pixels of ``image``, the best first."""
    try:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        texts = session.get_modelmeta().custom_metadata_map
        classes, config = json.loads(texts["classes"]), ast.literal_eval(texts["config"])
    except Exception as error:  # onnxruntime's own classes, which inherit from nothing else
        message = f"{path}: this is no file of export.py --to onnx ({type(error).__name__}: {error})"
        raise SystemExit(message) from error
    width, height = resized(image.size, config["test_dataloader"]["dataset"]["pipeline"])

    pixels = np.asarray(image.convert("RGB"), np.float32)
    pixels = resize_rows(resize_rows(pixels, height).swapaxes(0, 1), width).round()  # (w, h, 3)
    batch = pixels[..., ::-1].T[None].astype(np.float32)  # (1, 3, h, w), BGR
    inputs = {"image": batch, "sizes": np.array([[height, width]])}
    boxes, scores, labels = (output[0] for output in session.run(None, inputs))
    boxes = boxes * np.tile([image.width / width, image.height / height], 2)
    return [(classes[i], float(s), box.tolist()) for i, s, box in zip(labels, scores, boxes, strict=True)]


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="written by tools/deployment/export.py --to onnx")
    parser.add_argument("image")
    parser.add_argument("--score-thr", type=float, default=0.3)
    args = parser.parse_args()
    for name, score, box in detect(args.model, ImageOps.exif_transpose(Image.open(args.image))):
        if score >= args.score_thr:
            print(f"{name} {score:.3f} {' '.join(f'{x:.1f}' for x in box)}")
