"""The README.md of a folder that transformers loads."""

import json
from pathlib import Path

from torch import nn

from projects.reliable_runner.errors import InputError
from tools.model_converters.transformers_config import variant_of

_TITLES = {
    "base": "Deformable DETR",
    "refine": "Deformable DETR with iterative bounding box refinement",
    "two-stage": "two-stage Deformable DETR",
}
_CARD = """\
---
{license}library_name: transformers
pipeline_tag: object-detection
tags:
- object-detection
- deformable-detr
---

# {name}

A {title} ([Zhu et al., ICLR 2021](https://arxiv.org/abs/2010.04159)) that finds objects of {num_classes}
classes: {classes}.

{results}## Use

```python
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForObjectDetection

processor = AutoImageProcessor.from_pretrained("{name}")
model = AutoModelForObjectDetection.from_pretrained("{name}")
image = Image.open("image.jpg").convert("RGB")
with torch.no_grad():
    outputs = model(**processor(image, return_tensors="pt"))
(found,) = processor.post_process_object_detection(
    outputs, threshold=0.3, target_sizes=[image.size[::-1]], top_k={max_per_img}
)
for score, label, box in zip(found["scores"], found["labels"], found["boxes"]):
    print(model.config.id2label[label.item()], score.item(), box.tolist())  # x1, y1, x2, y2 in pixels
```

## Config

It was trained with MMDetection's Runner and this config:

<details>

```python
{cfg}
```

</details>
"""


def model_card(
    detector: nn.Module, name: str, results: dict[str, float] | None = None, license: str | None = None
) -> str:
    """Write what a detector is and how transformers loads it, by ``name``."""
    rows = [f"| {metric} | {value:g} |" for metric, value in (results or {}).items()]
    table = "\n".join(["## Measured", "", "| metric | value |", "| --- | --- |", *rows, "", ""])
    classes = detector.dataset_meta["classes"]
    return _CARD.format(
        license=f"license: {license}\n" if license else "",
        name=name,
        title=_TITLES[variant_of(detector)],
        num_classes=len(classes),
        classes=", ".join(f"`{label}`" for label in classes),
        results=table if rows else "",
        max_per_img=detector.bbox_head.max_per_img,
        cfg=detector.cfg.pretty_text.strip(),
    )


def read_results(path: Path) -> dict[str, float]:
    """Read the metrics of the JSON file that ``tools/test.py`` writes beside its log."""
    try:
        contents = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: the metrics can't be read ({error}); give the .json of a test") from error
    contents = contents if isinstance(contents, dict) else {}
    results = {
        key: value
        for key, value in contents.items()
        if type(value) in (int, float) and key not in ("time", "data_time")
    }
    if not results:
        raise InputError(
            f"{path}: it holds no metrics; give the file that tools/test.py writes, "
            "work_dirs/NAME/TIME/TIME.json"
        )
    return results
