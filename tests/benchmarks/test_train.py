"""The benchmark of training iterations from its command line, on a model that takes no time."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from mmengine.logging import MMLogger

from benchmarks.train import check_losses, main

CONFIG = Path(__file__).resolve().parents[1] / "tiny_ddetr.py"


@pytest.fixture(autouse=True)
def logger_as_before():
    logger = MMLogger.get_current_instance()
    level = logger.level
    yield
    logger.setLevel(level)


@pytest.mark.parametrize("data", [["--shape", "64", "48", "--amp", "bfloat16"], []])
def test_times_all_three_after_their_losses_agree(data, small_run, tmp_path, capsys):
    small = ["--batch-size", "2", "--rounds", "2", "--device", "cpu", "--work-dir", str(tmp_path)]
    main([str(CONFIG), *small, *data])
    before, table = capsys.readouterr().out.split("equal losses (within 0.0001)\n\n")
    assert "|" not in before
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:]]
    assert [row[0] for row in rows] == ["ours", "ours, reference for the op", "mmdet's DeformableDETR"]
    assert all(0 < float(least) <= float(median) for _, median, least, _, _ in rows)
    assert rows[0][3] == "1.00x"


def test_unequal_losses_end_it():
    ours, theirs = (
        SimpleNamespace(name=name, losses=lambda batch, loss=loss: {"loss_cls": loss})
        for name, loss in (("ours", 1.0), ("theirs", 1.001))
    )
    with pytest.raises(SystemExit, match="loss_cls of theirs is 1.001, ours is 1.0"):
        check_losses([ours, theirs], batch={})
