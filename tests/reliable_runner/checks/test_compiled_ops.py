"""A model that needs a compiled op of mmcv is refused where mmcv has none."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

from ms_deform_attn.compat.mmcv_ops import are_missing
from projects.deformable_detr.registry import MODELS
from projects.reliable_runner.checks.compiled_ops import check_compiled_ops
from projects.reliable_runner.errors import InputError

CONFIG = Path(__file__).parents[3] / "configs" / "ablations" / "ddetr_x101_dcn_50e_two_stage.py"


@pytest.mark.skipif(not are_missing(), reason="mmcv is installed with its compiled ops")
def test_the_parts_that_need_an_op_are_named():
    cfg = Config.fromfile(CONFIG)
    init_default_scope(cfg.default_scope)
    with torch.device("meta"):
        model = MODELS.build(cfg.model)
    with pytest.raises(InputError, match=rf"{CONFIG.name}.*layer2.0.conv2.*DeformConv"):
        check_compiled_ops(model, str(CONFIG))
