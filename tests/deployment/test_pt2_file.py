"""A detector compiled with our op inside."""

import subprocess
import sys

import pytest

from .conftest import check_finds_what_pytorch_finds

pytestmark = [pytest.mark.usefixtures("small_run"), pytest.mark.slow]


def test_finds_what_pytorch_finds(write):
    check_finds_what_pytorch_finds("two_stage", write("two_stage", "pt2"))


def test_a_pt2_needs_torch_and_the_op_alone(write):
    path = write("two_stage", "pt2")
    script = f"""
import sys, torch, ms_deform_attn
found = torch._inductor.aoti_load_package({str(path)!r})(torch.rand(1, 3, 64, 80), torch.tensor([[64, 70]]))
assert not {{"projects", "mmengine", "mmcv", "mmdet"}} & sys.modules.keys()
print([tuple(x.shape) for x in found])
"""
    assert subprocess.check_output([sys.executable, "-c", script], text=True).strip() == (
        "[(1, 10, 4), (1, 10), (1, 10)]"
    )
