"""The benchmark of the evaluation runs and finds the same numbers."""

import re

import pytest

pytest.importorskip("faster_coco_eval", reason="faster-coco-eval is not installed")

from benchmarks.eval import main


def test_both_backends_are_timed(capsys):
    main(["--images", "4", "--detections", "20"])
    first, second, difference = capsys.readouterr().out.strip().splitlines()[-3:]
    assert re.fullmatch(r"pycocotools: \d+\.\d s, AP 0\.\d+", first)
    assert first.rpartition(" ")[2] == second.rpartition(" ")[2]
    assert float(difference.rpartition(" ")[2]) < 1e-12
