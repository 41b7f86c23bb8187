"""Detect objects with an exported ONNX file and numpy, pillow and onnxruntime alone.

python demo/onnx_detect.py detector.onnx photo.jpg
"""

import ast
import json
import sys
from argparse import ArgumentParser

import numpy as np
import onnxruntime
from PIL import Image, ImageOps


def load(path: str) -> tuple[onnxruntime.InferenceSession, dict]:
    """The session and what the file says of itself."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session, session.get_modelmeta().custom_metadata_map


def resized_size(image: Image.Image, config: dict) -> tuple[int, int]:
    """Width and height that the test pipeline resizes an image to, with the sides' ratio kept."""
    steps = config["test_dataloader"]["dataset"]["pipeline"]
    (scale,) = [step["scale"] for step in steps if step["type"] == "Resize"]
    factor = min(max(scale) / max(image.size), min(scale) / min(image.size))
    return tuple(int(side * factor + 0.5) for side in image.size)


def detect(session: onnxruntime.InferenceSession, texts: dict, image: Image.Image, score_thr: float) -> list:
    """Find objects: (class, score, [x1, y1, x2, y2] in pixels of ``image``), the best first."""
    classes, config = json.loads(texts["classes"]), ast.literal_eval(texts["config"])
    width, height = resized_size(image, config)
    pixels = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR), np.float32)
    batch = np.ascontiguousarray(pixels[..., ::-1].transpose(2, 0, 1))[None]  # (1, 3, h, w), BGR
    sizes = np.array([[height, width]], np.int64)
    boxes, scores, labels = (x[0] for x in session.run(None, {"image": batch, "sizes": sizes}))
    boxes = boxes * np.tile([image.width / width, image.height / height], 2)
    found = zip(labels, scores, boxes, strict=True)
    return [(classes[i], float(score), box.tolist()) for i, score, box in found if score >= score_thr]


def main(argv: list[str] | None = None) -> None:
    """Print what is found."""
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="written by tools/deployment/export.py --to onnx")
    parser.add_argument("image")
    parser.add_argument("--score-thr", type=float, default=0.3)
    args = parser.parse_args(argv)
    image = ImageOps.exif_transpose(Image.open(args.image)).convert("RGB")
    for name, score, box in detect(*load(args.model), image, args.score_thr):
        print(f"{name} {score:.3f} {' '.join(f'{x:.1f}' for x in box)}")


if __name__ == "__main__":
    sys.exit(main())
