"""mmcv without its compiled ops is enough; with them it is left alone."""

import importlib.util
import sys

import pytest
import torch

from ms_deform_attn.compat.mmcv_ops import provide_missing_ops

has_ops = getattr(importlib.util.find_spec("mmcv._ext"), "origin", None) is not None


@pytest.mark.skipif(has_ops, reason="mmcv is installed with its compiled ops")
def test_missing_op_says_its_name_and_the_way_to_get_it():
    from mmcv.ops import nms

    with pytest.raises(NotImplementedError, match=r"op 'nms'.*pip install mmcv"):
        nms(torch.rand(3, 4), torch.rand(3), 0.5)


def test_compiled_ops_are_left_alone(monkeypatch):
    """Where something stands that would be imported, nothing takes its place."""
    monkeypatch.delitem(sys.modules, "mmcv._ext", raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: {"mmcv._ext": "compiled"}[name])
    provide_missing_ops()
    assert "mmcv._ext" not in sys.modules
