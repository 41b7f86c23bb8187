"""Imports go one way, and a newcomer can read a file in one sitting."""

import ast
import re
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]
PROJECT = REPO / "projects" / "deformable_detr"
THIRD_PARTY = {"mmcv", "mmdet", "mmengine", "ops", "scipy"}

# What a file may import, from this package and from the packages above; the standard library, torch and
# numpy are free. A file that is not named may import all but tools and tests.
ALLOWED = {
    "errors": set(),
    "geometry": set(),
    "registry": {"mmdet", "mmengine"},
    "attention": {"mmengine", "ops", "registry"},
    "mmcv_ops": set(),
    "backbone": {"mmdet", "mmengine", "recompute", "registry"},
    "neck": {"mmcv", "mmengine", "registry"},
    "bifpn": {"mmcv", "mmengine", "neck", "registry"},
    "positional_encoding": {"mmengine", "geometry", "registry"},
    "norm_statistics": set(),
    "recompute": {"norm_statistics"},
    "encoder": {"mmcv", "mmengine", "geometry", "recompute", "registry"},
    "decoder": {"mmcv", "mmengine", "geometry", "recompute", "registry"},
    "proposals": {"mmengine", "geometry", "registry"},
    "detector": {"mmdet", "attention", "errors", "geometry", "mmcv_ops", "registry"},
    "head": {"mmdet", "mmengine", "geometry", "registry", "task_modules"},
}


# The folders round the model, each with what it may import beside what all share.
LAYERS = {
    "task_modules": {"geometry"},
    "files": set(),
    "checks": {"files"},
    "dataset_check": {"files", "checks"},
    "datasets": {"files", "dataset_check"},
    "evaluation": {"files"},
    "training": {"files", "datasets", "norm_statistics"},
}
SHARED = {"errors", "quiet", "registry", "run_state"}


def imported(path: Path) -> set[str]:
    """Modules of this package and third-party packages that a file imports."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level:
            names |= {node.module.split(".")[0]} if node.module else {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("name", ALLOWED)
def test_imports_go_one_way(name):
    ours = {path.stem for path in PROJECT.iterdir()}
    assert imported(PROJECT / f"{name}.py") & (ours | THIRD_PARTY) <= ALLOWED[name]


@pytest.mark.parametrize("folder", LAYERS)
def test_folders_import_one_way(folder):
    others = {path.stem for path in PROJECT.iterdir()} - {folder}
    for path in (PROJECT / folder).glob("*.py"):
        assert imported(path) & others <= LAYERS[folder] | SHARED, path


def test_dat_needs_little_and_nothing_needs_dat():
    """Only the registry, the errors and the reader of checkpoints."""
    for path in (REPO / "projects" / "dat").glob("*.py"):
        assert not imported(path) & (THIRD_PARTY - {"mmcv", "mmengine"}), path
        lines = [line for line in path.read_text().splitlines() if "projects.deformable_detr" in line]
        needed = {line.split()[1].rpartition(".")[2] for line in lines if line.startswith("from ")}
        assert needed <= {"registry", "errors", "checkpoint"}, path
    for folder in ("projects/deformable_detr", "ops"):
        for path in (REPO / folder).rglob("*.py"):
            assert "projects.dat" not in path.read_text(), path


@pytest.mark.parametrize("path", sorted((REPO / "ops").glob("*.py")), ids=lambda path: path.name)
def test_op_needs_torch_alone(path):
    assert not imported(path) & (THIRD_PARTY - {"ops"} | {"numpy", "projects"})


@pytest.mark.parametrize("folder", ["ops", "projects"])
def test_nothing_imports_tools_or_tests(folder):
    for path in (REPO / folder).rglob("*.py"):
        assert not imported(path) & {"tools", "tests"}, path


def test_projects_is_open_for_other_checkouts():
    """With an ``__init__.py`` in it, the projects of other checkouts would vanish."""
    assert not (REPO / "projects" / "__init__.py").exists()


@pytest.mark.parametrize("folder", ["ops", "projects", "tools"])
def test_files_are_short(folder):
    for path in (REPO / folder).rglob("*.py"):
        assert len(path.read_text().splitlines()) <= 260, path


def test_every_package_is_in_the_wheel():
    listed = set(re.findall(r'^ {8}"((?:ops|projects)[a-z_.]*)",$', (REPO / "setup.py").read_text(), re.M))
    folders = {path.parent for name in ("ops", "projects") for path in (REPO / name).rglob("__init__.py")}
    assert listed == {".".join(folder.relative_to(REPO).parts) for folder in folders}
