"""Where a module of POSIX is absent everything is imported, and the model works on the reference op.

It stands for Windows, on which nothing has been run.
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]
# torch and mmengine have branches of their own for Windows: they are imported before.
HIDE = """
import signal, sys
import torch, mmengine, mmcv, numpy, matplotlib
sys.path[:0] = [".", "ops"]
for name in ("resource", "fcntl", "termios", "pwd", "grp"):
    sys.modules[name] = None
for name in ("SIGKILL", "SIGBUS", "SIGHUP", "SIGUSR1"):
    delattr(signal, name)
sys.modules["ms_deform_attn._C"] = None
"""
IMPORT_ALL = """
import importlib, pathlib
for root in ("projects", "tools"):
    for path in sorted(pathlib.Path(root).rglob("*.py")):
        name = ".".join(path.with_suffix("").parts).removesuffix(".__init__")
        importlib.import_module(name)
        print(name)
"""
TEST = """
import pytest
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", *sys.argv[1:]]))
"""


def run(script: str, *args: str) -> str:
    command = [sys.executable, "-c", HIDE + script, *args]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def test_no_module_of_posix_is_imported_anywhere():
    """In a function neither: it would fail when it is called."""
    of_posix = r"^\s*(import|from) (resource|fcntl|termios|pwd|grp)\b"
    for root in ("projects", "tools", "ops"):
        for path in (REPO / root).rglob("*.py"):
            assert not re.search(of_posix, path.read_text(encoding="utf-8"), re.MULTILINE), path


def test_everything_is_imported():
    assert "projects.reliable_runner.data.workers" in run(IMPORT_ALL)


@pytest.mark.slow
def test_the_model_is_mmdets_on_the_reference_op():
    files = [f"tests/deformable_detr/test_{name}.py" for name in ("detector", "padding", "parity")]
    assert " passed" in run(TEST, *files)
