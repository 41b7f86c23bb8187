"""``make gpu`` on a machine without one: every part is tried and reported, whatever the others do."""

import shlex
import sys

import pytest

from benchmarks import gpu


@pytest.fixture
def parts(monkeypatch) -> list[gpu.Part]:
    def python(title: str, code: str, minutes: float = 1) -> gpu.Part:
        return gpu.Part(title, [sys.executable, "-c", code], minutes)

    parts = [
        python("A table", "print('noise\\n| a | b |\\n| --- | --- |\\n| 1 | 2 |')"),
        python("A crash", "print('| half |'); raise ValueError('of the kernel')"),
        gpu.Part("A missing tool", ["no-such-sanitizer", "x"], 1),
        python("Too long", "import time; print('started', flush=True); time.sleep(60)", minutes=0.02),
        python("Tests", "print('12 passed in 3 s')"),
    ]
    monkeypatch.setattr(gpu, "all_parts", lambda device: parts)
    return parts


def test_each_part_is_reported(parts, tmp_path):
    assert gpu.main(["--device", "cpu", "--out", str(tmp_path / "gpu.md")]) == 3
    page = (tmp_path / "gpu.md").read_text()
    results = [
        *("passed", "FAILED (exit code 1)", "no-such-sanitizer was not found"),
        *("stopped after 0.02 minutes", "passed"),
    ]
    for part, result in zip(parts, results, strict=True):
        assert f"| {part.title} | {result} |" in page
    assert "| a | b |\n| --- | --- |\n| 1 | 2 |" in page and "\nnoise" not in page
    assert "ValueError: of the kernel" in page and "| half |" in page
    assert "started" in page and "12 passed in 3 s" in page


def test_the_parts_take_at_most_twenty_minutes():
    assert sum(part.minutes for part in gpu.all_parts("cuda")) <= 20


def test_a_build_without_the_kernels_of_the_device_has_failed(tmp_path, monkeypatch):
    """As where nvcc is missing, which pip does not mind."""
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\n[ "$1" = -m ] || exec {shlex.quote(sys.executable)} "$@"\n')
    python.chmod(0o755)
    monkeypatch.setattr(gpu, "PYTHON", str(python))
    for device, result in dict(cpu="passed", xpu="FAILED (exit code 1)").items():
        part = gpu.all_parts(device)[0]
        part.run()
        assert part.result == result
        assert (f"without a kernel for {device}" in part.report()) == (device == "xpu")
        assert str(tmp_path) not in part.shown_command


@pytest.mark.skipif(gpu.torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_without_a_gpu_says_so(tmp_path, capsys):
    with pytest.raises(SystemExit):
        gpu.main(["--out", str(tmp_path / "gpu.md")])
    assert "finds no CUDA GPU" in capsys.readouterr().err
    assert not (tmp_path / "gpu.md").exists()
