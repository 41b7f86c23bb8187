"""Curves out of mmengine's logs."""

import json
import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest

from projects.reliable_runner.errors import InputError

TOOL = Path(__file__).parents[2] / "tools" / "analysis_tools" / "analyze_logs.py"
analyze_logs = SimpleNamespace(**runpy.run_path(str(TOOL)))


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "run" / "time" / "vis_data" / "scalars.json"
    path.parent.mkdir(parents=True)
    entries = [
        dict(loss=4.0, epoch=1, iter=1, step=1),
        dict(loss=2.0, epoch=1, iter=2, step=2),
        {"coco/bbox_mAP": 0.25, "step": 1},
        dict(loss=1.0, epoch=2, iter=3, step=3),
        {"coco/bbox_mAP": 0.5, "step": 2},
    ]
    path.write_text("\n".join(map(json.dumps, entries)))
    return path


def test_curves_are_drawn(log, tmp_path):
    out = tmp_path / "curve.svg"
    analyze_logs.main(["plot_curve", str(log), "--keys", "loss", "bbox_mAP", "--out", str(out)])
    assert "<svg" in out.read_text()


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (["plot_curve", "{}", "--keys", "mAP"], "'mAP'.*bbox_mAP"),
        (["plot_curve", "none.json"], "no such log"),
        (["plot_curve", "{}", "--legend", "a", "b"], "2 curves, but there are 1"),
        (["cal_train_time", "{}"], "no times of training iterations"),
    ],
)
def test_mistakes_are_named(log, args, named):
    with pytest.raises(InputError, match=named):
        analyze_logs.main([arg.format(log) for arg in args])


@pytest.fixture
def timed_log(log):
    """Epochs of 3, 5 and 4 seconds an iteration, the first of each slower, and a slow validation."""
    times = [(1, 7.0), (1, 3.0), (1, 3.0), (2, 8.0), (2, 4.0), (2, 6.0), (3, 4.0), (3, 4.0)]
    entries = [dict(time=t, epoch=e, iter=i, step=i) for i, (e, t) in enumerate(times, 1)]
    entries.insert(3, {"coco/bbox_mAP": 0.5, "time": 99.0, "data_time": 1.0, "step": 1})
    log.write_text("\n".join(map(json.dumps, entries)))
    return log


@pytest.mark.parametrize(
    ("options", "slowest", "fastest", "std", "mean"),
    [
        ([], (2, 5), (1, 3), (2 / 3) ** 0.5, 4),
        (["--include-outliers"], (2, 6), (3, 4), (62 / 81) ** 0.5, 43 / 9),
    ],
)
def test_times_of_iterations(timed_log, capsys, options, slowest, fastest, std, mean):
    analyze_logs.main(["cal_train_time", str(timed_log), *options])
    assert capsys.readouterr().out.splitlines() == [
        f"-----Analyze train time of {timed_log}-----",
        f"slowest epoch {slowest[0]}, average time is {slowest[1]:.4f} s/iter",
        f"fastest epoch {fastest[0]}, average time is {fastest[1]:.4f} s/iter",
        f"time std over epochs is {std:.4f}",
        f"average iter time: {mean:.4f} s/iter",
        "",
    ]
    assert analyze_logs.read_log(timed_log)["time"][2:4] == [(1, 3.0), (2, 8.0)]


def test_minutes_of_training(timed_log, tmp_path):
    log = analyze_logs.read_log(timed_log)
    assert analyze_logs.minutes_until(3, log) == pytest.approx(8 * 4 / 60)  # 8 iterations of 4 s
    out = tmp_path / "curve.svg"
    analyze_logs.main(["plot_curve", str(timed_log), "--minutes", "--out", str(out)])
    assert out.is_file()


def test_a_log_that_cannot_be_averaged_is_named(log):
    log.write_text('{"time": 1.0, "epoch": 1, "iter": 50, "step": 50}')
    with pytest.raises(InputError, match="add --include-outliers"):
        analyze_logs.main(["cal_train_time", str(log)])
