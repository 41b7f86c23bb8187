"""What is found in a work_dir."""

import json
import os

import pytest

from projects.reliable_runner.errors import InputError
from projects.run_report.run_folder import RunFolder, join_logs, read_log


@pytest.fixture
def add(tmp_path):
    def add(time: str, *entries: dict, config: bool = True):
        folder = tmp_path / time / "vis_data"
        folder.mkdir(parents=True)
        (folder / "scalars.json").write_text("\n".join(map(json.dumps, entries)))
        if config:
            (folder / "config.py").touch()
        return folder / "config.py"

    return add


def of_training(epoch: int, loss: float) -> dict:
    return dict(loss=loss, epoch=epoch, iter=epoch, step=epoch)


def test_the_config_is_of_the_last_training(add, tmp_path):
    """A test has a log, too, but it is not looked at."""
    add("20260101_000000", of_training(1, 3.0), {"coco/bbox_mAP": 0.1, "step": 1}, of_training(2, 2.0))
    config = add("20260102_000000", of_training(2, 1.0))
    add("20260103_000000", {"coco/bbox_mAP": 0.9, "step": 0})
    run = RunFolder.of(tmp_path)
    assert run.config == config
    assert run.log["loss"] == [(1, 3.0), (2, 1.0)] and run.log["bbox_mAP"] == [(1, 0.1)]


def test_the_best_checkpoint_goes_before_the_last(add, tmp_path):
    add("20260101_000000", of_training(1, 1.0))
    run = RunFolder.of(tmp_path)
    with pytest.raises(InputError, match="no checkpoint; name one with --checkpoint"):
        run.checkpoint()
    for age, name in enumerate(("epoch_2.pth", "epoch_1.pth", "best_epoch_2.pth", "best_epoch_1.pth")):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (1000 - age, 1000 - age))
    assert run.checkpoint() == tmp_path / "best_epoch_2.pth"
    for path in tmp_path.glob("best_*"):
        path.unlink()
    assert run.checkpoint() == tmp_path / "epoch_2.pth"
    (tmp_path / "last_checkpoint").write_text("/where/it/was/epoch_1.pth\n")
    assert run.checkpoint() == tmp_path / "epoch_1.pth"


def test_a_folder_without_a_run_is_named(add, tmp_path):
    with pytest.raises(InputError, match="none: there is no such folder"):
        RunFolder.of(tmp_path / "none")
    with pytest.raises(InputError, match="no training has logged in it"):
        RunFolder.of(tmp_path)
    add("20260101_000000", {"coco/bbox_mAP": 0.9, "step": 0})
    with pytest.raises(InputError, match="no training has logged in it"):
        RunFolder.of(tmp_path)
    add("20260102_000000", of_training(1, 1.0), config=False)
    with pytest.raises(InputError, match="config.py: the training has left no config"):
        RunFolder.of(tmp_path)
    add("20260103_000000", dict(loss=1))
    with pytest.raises(InputError, match="scalars.json: line 1 is no entry"):
        RunFolder.of(tmp_path)


def test_a_last_line_that_is_not_finished_is_left_out(tmp_path):
    """The training was killed, or goes on."""
    path = tmp_path / "scalars.json"
    lines = [json.dumps(dict(loss=3.0 - i, epoch=i, iter=i, step=i)) + "\n" for i in (1, 2)]
    for length in range(len(lines[1]) - 1):
        path.write_text(lines[0] + lines[1][:length])
        assert read_log(path)["loss"] == [(1, 2.0)]
    path.write_text(lines[0] + lines[1][:-1])
    assert read_log(path)["loss"] == [(1, 2.0), (2, 1.0)]
    for damaged in (lines[0][:20] + "\n" + lines[1], lines[0][:20]):
        path.write_text(damaged)
        with pytest.raises(InputError, match="scalars.json: line 1 is no entry"):
            read_log(path)


def test_from_its_start_on_the_later_log_counts():
    first = dict(
        iter=[(1, 5), (2, 10), (3, 15)], loss=[(1, 4.0), (2, 3.0), (3, 9.0)], bbox_mAP=[(1, 0.1), (2, 0.2)]
    )
    second = dict(iter=[(3, 15), (4, 20)], loss=[(3, 2.0), (4, 1.0)], bbox_mAP=[(3, 0.3)], new=[(3, 1.0)])
    joined = join_logs([first, second])
    assert joined["loss"] == [(1, 4.0), (2, 3.0), (3, 2.0), (4, 1.0)]
    assert joined["bbox_mAP"] == [(1, 0.1), (2, 0.2), (3, 0.3)]
    assert joined["new"] == [(3, 1.0)]
    assert join_logs([first]) == first
