"""What of the tree import-linter (`make lint`) does not see."""

import ast
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]
CODE = [path for folder in ("ops", "projects") for path in (REPO / folder).rglob("*.py")]


def test_projects_is_open_for_other_checkouts():
    """With an ``__init__.py`` in it, the projects of other checkouts would vanish."""
    assert not (REPO / "projects" / "__init__.py").exists()


@pytest.mark.parametrize("path", CODE, ids=lambda path: path.relative_to(REPO).as_posix())
def test_nothing_imports_scripts_or_tests(path):
    imported = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            imported.add(node.module.split(".")[0])
    assert not imported & {"tools", "benchmarks", "studies", "tests"}


def test_the_architecture_reads_in_an_evening():
    files = list((REPO / "projects" / "deformable_detr").rglob("*.py"))
    assert sum(len(path.read_text().splitlines()) for path in files) <= 2000
