"""Each target against PyTorch: one image, padded batches, sizes that were not traced."""

import subprocess
import sys

import pytest
import torch

from projects.deployment.exported_detector import ExportedDetector
from projects.deployment.parity import compare
from projects.deployment.targets import SUFFIXES, is_exported, needed
from projects.reliable_runner.errors import InputError

from .conftest import VARIANTS, detector_of

pytestmark = pytest.mark.usefixtures("small_run")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variant", "target"),
    [*((variant, "onnx") for variant in VARIANTS), ("two_stage", "openvino"), ("two_stage", "pt2")],
)
def test_finds_what_pytorch_finds(variant, target, write):
    generator = torch.Generator().manual_seed(1)
    images = [
        torch.randint(256, (3, *size), dtype=torch.uint8, generator=generator)
        for size in ((64, 64), (75, 101), (201, 70))
    ]
    exported = ExportedDetector(write(variant, target))
    comparisons = list(compare(detector_of(variant), exported, images, 1e-4))
    assert {len(comparison.shape) for comparison in comparisons} == {3}
    assert [comparison.line() for comparison in comparisons if comparison.missing] == []
    assert all(comparison.detections == 10 * comparison.shape[0] for comparison in comparisons)


@pytest.mark.slow
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


def test_knows_exported_files_by_their_names():
    assert all(is_exported(f"a/b{suffix}") for suffix in SUFFIXES.values())
    assert not is_exported("epoch_1.pth")


def test_names_the_package_that_is_missing(monkeypatch):
    def refuse(name, *args, **kwargs):
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr("projects.deployment.targets.import_module", refuse)
    with pytest.raises(InputError, match="want onnxruntime: pip install .*No module named 'onnxruntime'"):
        needed("onnxruntime")


@pytest.mark.parametrize("suffix", SUFFIXES.values())
def test_refuses_a_file_that_is_none(suffix, tmp_path):
    path = tmp_path / f"detector{suffix}"
    with pytest.raises(InputError, match="there is no such file"):
        ExportedDetector(path)
    path.write_bytes(b"nothing")
    with pytest.raises(InputError, match="can't read it"):
        ExportedDetector(path)
