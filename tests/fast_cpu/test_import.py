"""Packages that need mmdet can be the first that is imported, with or without mmcv's ops."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("module", ["projects.fast_cpu", "projects.deployment.graph"])
def test_can_be_imported_first(module):
    subprocess.run([sys.executable, "-c", f"import {module}"], check=True)
