"""The log of a training that was resumed."""

from projects.run_report.training_log import join_logs


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
