import re
from pathlib import Path

from benchmarks.memory import main

CONFIG = Path(__file__).resolve().parents[1] / "tiny_ddetr.py"


def test_recomputing_saves_memory(capsys):
    megabytes = []
    for options in ([], ["--cfg-options", "model.encoder.num_cp=1", "model.decoder.num_cp=1"]):
        main([str(CONFIG), "--shape", "160", "224", *options])
        printed = capsys.readouterr().out
        megabytes.append(int(re.search(r"backward pass: (\d+) MB", printed)[1]))
        assert re.search(r"forward and backward: [\d.]+ s", printed)
    assert megabytes[1] < megabytes[0]
