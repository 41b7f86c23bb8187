"""The causes that the tool takes away are all that there are: without them, padding changes nothing."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.structures import InstanceData

from projects.deformable_detr.registry import MODELS, SCOPE
from studies.padding import detect, main, pair

CONFIG = Path(__file__).resolve().parents[1] / "tiny_ddetr.py"


@pytest.mark.parametrize("shape", [(64, 96), (50, 70)])
@pytest.mark.parametrize("without", [[], ["conv", "norm", "queries"]])
def test_no_other_cause(small_run, shape, without):
    torch.manual_seed(0)
    cfg = dict(Config.fromfile(CONFIG).model, with_box_refine=True, as_two_stage=True, _scope_=SCOPE)
    model = MODELS.build(cfg).eval()
    model.init_weights()
    for parameter in model.parameters():  # zero-initialised layers would hide differences
        parameter.data += 0.05 * torch.randn_like(parameter)
    model.data_preprocessor.pad_size_divisor = 32
    rng = np.random.default_rng(0)
    small, large = (rng.integers(0, 256, (*s, 3), np.uint8) for s in (shape, (150, 173)))
    alone, padded = (detect(model, b, without) for b in ([small], [small, large]))
    equal = torch.allclose(alone.scores, padded.scores, rtol=1e-3, atol=1e-5)
    assert equal == bool(without)
    if without:
        torch.testing.assert_close(alone.bboxes, padded.bboxes, rtol=0, atol=1e-2)
    assert not any(module._forward_hooks for module in model.modules())


def test_pairs_are_of_one_class_and_near():
    def found(*rows) -> InstanceData:
        table = torch.tensor(rows)
        return InstanceData(bboxes=table[:, :4], scores=table[:, 4], labels=table[:, 5].int())

    alone = found([0, 0, 9, 9, 0.9, 0], [20, 20, 40, 40, 0.8, 1], [0, 0, 9, 9, 0.2, 0])
    padded = found([0, 0, 9, 9, 0.9, 1], [0, 1, 12, 9, 0.7, 0], [29, 20, 40, 40, 0.8, 1])
    differences, num_lost = pair(alone, padded)
    assert differences == [pytest.approx((3.0, 0.2))] and num_lost == 1


def test_mistakes_are_one_line(small_run, checkpoint, shapes_root, one_line_error):
    sizes = ["--size", "48", "48", "--beside", "64", "64"]
    folder = shapes_root / "val"
    for images, named in (folder, "nothing is detected"), (folder / "000001.png", "two images"):
        assert named in one_line_error(main, CONFIG, checkpoint, images, *sizes)
