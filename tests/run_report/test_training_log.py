"""The log of a training that was resumed."""

import json

import pytest

from projects.reliable_runner.errors import InputError
from projects.run_report.training_log import join_logs, read_log


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
