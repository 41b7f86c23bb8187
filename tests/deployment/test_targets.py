"""Each target against PyTorch: one image, padded batches, sizes that were not traced."""

import logging
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import openvino
import pytest
import torch

from projects.deployment.exported_detector import ExportedDetector
from projects.deployment.parity import compare
from projects.deployment.targets import SUFFIXES, is_exported, needed
from projects.reliable_runner.errors import InputError

from .conftest import VARIANTS, detector_of

pytestmark = pytest.mark.usefixtures("small_run")


# What the others of VARIANTS are made of; to export one takes half a minute.
PARTS = ("base", "two_stage", "dino", "detr", "dat")


@pytest.mark.parametrize(
    ("variant", "target"),
    [
        *(pytest.param(name, "onnx", marks=pytest.mark.slow) for name in PARTS),
        *(pytest.param(name, "onnx", marks=pytest.mark.soak) for name in VARIANTS if name not in PARTS),
        *(pytest.param("two_stage", target, marks=pytest.mark.slow) for target in ("openvino", "pt2")),
    ],
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


@pytest.mark.slow
@pytest.mark.parametrize("target", ["onnx", "openvino"])
def test_threads_share_a_detector(target, write):
    session = ExportedDetector(write("two_stage", target)).session
    torch.manual_seed(0)
    images = [torch.rand(1, 3, 48 + 16 * i, 64) * 255 for i in range(4)]

    def run(first: int) -> list:
        order = [images[(first + i) % 4] for i in range(40)]
        return [session(image, torch.tensor([image.shape[2:]])) for image in order]

    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(run, range(3)))
    for first, results in enumerate(found):
        torch.testing.assert_close(results, run(first), rtol=1e-4, atol=1e-3)


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
def test_refuses_a_file_that_is_none(suffix, tmp_path, caplog, monkeypatch):
    path = tmp_path / f"detector{suffix}"
    log = logging.getLogger("torch._inductor.package.package")  # warns of "outdated" files
    monkeypatch.setattr(log, "handlers", [caplog.handler])
    with pytest.raises(InputError, match="there is no such file"):
        ExportedDetector(path)
    path.write_bytes(b"nothing")
    with pytest.raises(InputError, match="can't read it"):
        ExportedDetector(path)
    assert caplog.records == []


@pytest.mark.parametrize(
    ("weights", "cause"),
    [(None, "bin file cannot be found"), (b"short", "Incorrect weights in bin file")],
)
def test_says_what_is_wrong_with_the_second_file(weights, cause, tmp_path):
    path = tmp_path / "detector.xml"
    openvino.save_model(openvino.Model([openvino.opset8.constant(np.arange(99.0))], []), path)
    path.with_suffix(".bin").unlink()
    if weights:
        path.with_suffix(".bin").write_bytes(weights)
    with pytest.raises(InputError, match=f"detector.xml: OpenVINO can't read it: .*{cause}"):
        ExportedDetector(path)


def test_refuses_a_name_of_no_exported_file(tmp_path):
    (tmp_path / "detector.bin").touch()
    with pytest.raises(InputError, match=r"detector.bin: an exported file ends with .onnx, .xml, .pt2"):
        ExportedDetector(tmp_path / "detector.bin")
