import re
import runpy
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
main = runpy.run_path(str(REPO / "benchmarks" / "memory.py"))["main"]


def test_recomputing_saves_memory(capsys):
    megabytes = []
    for options in ([], ["--cfg-options", "model.encoder.num_cp=1", "model.decoder.num_cp=1"]):
        main([str(REPO / "tests" / "tiny_ddetr.py"), "--shape", "160", "224", *options])
        printed = capsys.readouterr().out
        megabytes.append(int(re.search(r"backward pass: (\d+) MB", printed)[1]))
        assert re.search(r"forward and backward: [\d.]+ s", printed)
    assert megabytes[1] < megabytes[0]
