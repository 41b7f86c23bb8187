"""What is logged as memory where there is no GPU."""

import math
import subprocess
import sys
from pathlib import Path

import pytest

from projects.reliable_runner.training import log_processor

REPO = Path(__file__).resolve().parents[3]
SCRIPT = """
import torch
from projects.reliable_runner.training.log_processor import peak_resident_mb

before = peak_resident_mb()
held = torch.ones(200 * 2**18)  # 200 MB
during = peak_resident_mb()
del held
print(during - before, peak_resident_mb() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(math.isnan(log_processor.peak_resident_mb()), reason="the kernel tells no VmHWM")
def test_peak_memory_grows_with_what_is_held():
    """In a process of its own: one that has held more before has its peak behind it."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=REPO, capture_output=True, text=True, check=True
    )
    during, after = map(int, done.stdout.splitlines()[-1].split())
    # A megabyte less in between: Linux adds up what its processors have counted with a delay.
    assert 190 <= during <= after + 1 < 300


def test_kernels_that_tell_no_peak(tmp_path, monkeypatch):
    status = tmp_path / "status"
    monkeypatch.setattr(log_processor, "_STATUS", status)
    assert math.isnan(log_processor.peak_resident_mb())
    status.write_text("VmRSS:\t1024 kB\n")  # as gVisor's
    assert math.isnan(log_processor.peak_resident_mb())
    status.write_text("VmHWM:\t    2048 kB\n")
    assert log_processor.peak_resident_mb() == 2
