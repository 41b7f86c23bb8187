"""What is distributed: the op alone, which needs nothing but torch."""

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
    shim = Path("MultiScaleDeformableAttention.py")
    assert built == {path.relative_to(package.parent) for path in package.rglob("*.py")} | {shim}
    with tarfile.open(next((tmp_path / "dist").glob("*.tar.gz"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    sources = {str(path.relative_to(ROOT)) for path in (ROOT / "ops" / "csrc").rglob("*") if path.is_file()}
    assert sources | {"docs/op.md"} <= names
    assert not any(name.startswith(("projects", "tools", "tests")) for name in names)


@pytest.mark.slow
def test_wheel_works_with_nothing_but_torch(tmp_path):
    build(["-m", "pip", "wheel", ".", "--no-deps", "--no-build-isolation", "--wheel-dir", "dist"], tmp_path)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    site = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "--no-deps", "--target", site, wheel]
    subprocess.run(install, check=True, capture_output=True)
    script = Path(__file__).with_name("wheel_in_use.py")
    result = subprocess.run(
        [sys.executable, script], cwd=site, env={"PYTHONPATH": str(site)}, capture_output=True, text=True
    )
    assert result.stdout.strip().endswith(str(site / "ms_deform_attn" / "__init__.py")), result.stderr
