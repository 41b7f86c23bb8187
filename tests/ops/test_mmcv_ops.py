"""mmcv without its compiled ops is enough; with them it is left alone."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import torch

REPO = Path(__file__).parents[2]
has_ops = getattr(importlib.util.find_spec("mmcv._ext"), "origin", None) is not None


@pytest.mark.skipif(has_ops, reason="mmcv is installed with its compiled ops")
def test_missing_op_says_its_name_and_the_way_to_get_it():
    from mmcv.ops import nms

    with pytest.raises(NotImplementedError, match=r"op 'nms'.*pip install mmcv"):
        nms(torch.rand(3, 4), torch.rand(3), 0.5)


def test_compiled_ops_are_left_alone(tmp_path):
    """A module that stands where the compiled ops would stand is the one that is used."""
    code = """
import importlib.machinery, sys, types
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "mmcv._ext":
            return importlib.machinery.ModuleSpec(name, self, origin="compiled")
    def create_module(self, spec):
        return types.ModuleType(spec.name)
    def exec_module(self, module):
        module.compiled = True
sys.meta_path.insert(0, Finder())
from ms_deform_attn.compat.mmcv_ops import provide_missing_ops
provide_missing_ops()
from mmcv import _ext
assert _ext.compiled
"""
    script = tmp_path / "script.py"
    # Without the package, whose own extension would be looked for too.
    script.write_text(code.replace("ms_deform_attn.compat.mmcv_ops", "mmcv_ops"))
    folder = REPO / "ops" / "ms_deform_attn" / "compat"
    subprocess.run([sys.executable, script], check=True, env={"PYTHONPATH": str(folder)})
