"""What is distributed: the op alone, which needs nothing but torch."""

import importlib.metadata
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = ("setup.py", "pyproject.toml", "MANIFEST.in", "LICENSE")


def build(command: list[str], folder: Path) -> None:
    # A copy, as setuptools writes beside the sources.
    for name in SOURCES:
        shutil.copy(ROOT / name, folder)
    for name in ("ops", "docs", "projects"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    subprocess.run([sys.executable, *command], cwd=folder, check=True, capture_output=True)


def test_distribution_holds_the_op_alone(tmp_path):
    build(["setup.py", "build_py", "--build-lib", "lib", "sdist"], tmp_path)
    built = {path.relative_to(tmp_path / "lib") for path in (tmp_path / "lib").rglob("*") if path.is_file()}
    package = ROOT / "ops" / "ms_deform_attn"
    assert built == {path.relative_to(package.parent) for path in package.rglob("*.py")}
    with tarfile.open(next((tmp_path / "dist").glob("*.tar.gz"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    sources = {str(path.relative_to(ROOT)) for path in (ROOT / "ops" / "csrc").rglob("*") if path.is_file()}
    assert sources | {"docs/op.md"} <= names
    assert not any(name.startswith(("projects", "tools", "tests")) for name in names)


def torch_and_its_requirements(site: Path) -> None:
    """Link torch, and what it needs, into an empty folder."""
    seen, todo = set(), ["torch"]
    while todo:
        name = re.match(r"[\w.-]+", todo.pop()).group()
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:  # for another platform
            continue
        if name in seen:
            continue
        seen.add(name)
        todo += [line for line in distribution.requires or () if "extra ==" not in line]
        for top in {
            file.parts[0] for file in distribution.files if file.parts[0] not in ("..", "__pycache__")
        }:
            if not (site / top).exists():
                (site / top).symlink_to(distribution.locate_file(top))


@pytest.mark.slow
def test_wheel_works_with_nothing_but_torch(tmp_path):
    pip = ["-m", "pip", "wheel", ".", "--no-deps", "--no-build-isolation", "--wheel-dir", "dist"]
    build(pip, tmp_path)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    site = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "--no-deps", "--target", site, wheel]
    subprocess.run(install, check=True, capture_output=True)
    torch_and_its_requirements(site)
    code = """
import importlib.util, warnings
assert not any(importlib.util.find_spec(name) for name in ("numpy", "mmcv", "mmengine", "projects"))
import torch
warnings.simplefilter("error")
from ms_deform_attn import MSDeformAttn
query, value, points = torch.rand(1, 3, 8), torch.rand(1, 4, 8), torch.rand(1, 3, 1, 2)
output = MSDeformAttn(8, 2, 1, 1)(query, value, points, [(2, 2)], [0])
output.sum().backward()
print(output.shape)
"""
    command = [sys.executable, "-S", "-c", code]  # -S: without this environment's packages
    result = subprocess.run(
        command, cwd=tmp_path / "dist", env={"PYTHONPATH": str(site)}, capture_output=True, text=True
    )
    assert result.stdout == "torch.Size([1, 3, 8])\n", result.stderr
