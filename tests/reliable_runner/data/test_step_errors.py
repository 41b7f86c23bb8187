"""A step that fails is named with its settings and its image: in a data set of any kind, and in a mixture."""

import cv2
import numpy as np
import pytest
from mmcv.transforms import BaseTransform
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS, TRANSFORMS, DefaultScope

from projects.reliable_runner.errors import InputError


@TRANSFORMS.register_module()
class FailingStep(BaseTransform):
    def __init__(self, strength: int = 3) -> None:
        self.strength = strength

    def transform(self, results: dict) -> dict:
        raise IndexError(f"no place {self.strength}")

    def __repr__(self) -> str:
        return f"FailingStep(strength={self.strength})"


@DATASETS.register_module()
class ThinImages(BaseDataset):
    def load_data_list(self) -> list[dict]:
        boxes = [dict(bbox=[0, 0, 1, 50], bbox_label=0, ignore_flag=0)]
        paths = [self.data_prefix["img_path"] + name for name in ("wide.png", "thin.png")]
        return [dict(img_path=path, img_id=i, instances=boxes) for i, path in enumerate(paths)]


LOAD = [dict(type="LoadImageFromFile"), dict(type="LoadAnnotations", with_bbox=True)]


def build(folder, *steps: dict, mixed: bool = False):
    cv2.imwrite(str(folder / "thin.png"), np.zeros((300, 1, 3), np.uint8))
    cv2.imwrite(str(folder / "wide.png"), np.zeros((60, 80, 3), np.uint8))
    cfg = dict(type="ThinImages", data_prefix=dict(img_path=f"{folder}/"), pipeline=LOAD)
    if mixed:
        cfg = dict(type="MultiImageMixDataset", dataset=cfg, pipeline=steps)
    else:
        cfg["pipeline"] = [*LOAD, *steps]
    with DefaultScope.overwrite_default_scope("mmdet"):
        return DATASETS.build(dict(cfg, _scope_="mmdet") if mixed else cfg)


def test_step_settings_image_and_cause(tmp_path):
    dataset = build(tmp_path, dict(type="RandomChoice", transforms=[[dict(type="FailingStep", strength=7)]]))
    with pytest.raises(InputError) as error:
        dataset[0]
    expected = f"image {tmp_path}/wide.png (80x60): FailingStep(strength=7) fails: IndexError: no place 7"
    assert str(error.value) == expected


@pytest.mark.parametrize(
    "step",
    [
        dict(type="Mosaic", img_scale=(32, 32), prob=1.0),
        dict(type="MixUp", img_scale=(32, 32), ratio_range=(0.5, 0.5)),
        dict(type="Resize", scale=(32, 32), keep_ratio=True),
    ],
)
def test_a_thin_picture_in_a_mixture(tmp_path, step):
    dataset = build(tmp_path, step, mixed=True)
    with pytest.raises(InputError) as error:
        for _ in range(20):
            dataset[1]
    assert f"image {tmp_path}/thin.png (1x300)" in str(error.value) and step["type"] in str(error.value)
    assert "\n" not in str(error.value)
