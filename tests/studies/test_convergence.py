"""A study of two rows, and its numbers against ones counted by hand."""

import csv
import json
import math
import sys

import pytest

from studies import convergence as convergence_study
from studies.convergence import CONFIGS, main
from studies.convergence_results import Run, markdown, read_run, summarise
from studies.observe import append, instability, read_matches


def run(row: str, seed: int, ap: list[float], memory: float = 100.0) -> Run:
    epochs = [10 * (i + 1) if row == "detr_dc5" else i + 1 for i in range(len(ap))]
    return Run(row, seed, epochs, dict(AP=ap, AP_S=[x / 2 for x in ap]), 3.0 + seed, memory)


def test_epochs_are_counted_until_the_mean_reaches_detrs_last():
    table = summarise(
        [
            run("detr", 0, [0.0, 0.1, 0.3]),
            run("detr", 1, [0.0, 0.1, 0.1], memory=120.0),
            run("refine", 0, [0.1, 0.1, 0.5]),
            run("refine", 1, [0.1, 0.3, 0.5]),
            run("two_stage", 0, [0.1, 0.1, 0.1]),
        ]
    )
    assert [cells["epochs"] for cells in table.values()] == [3, 2, None]
    assert table["detr"] == dict(
        AP=pytest.approx(0.2),
        AP_spread=pytest.approx(0.2),
        AP_S=pytest.approx(0.1),
        epochs=3,
        epochs_to_half=None,  # 0.25
        seconds_per_epoch=3.5,
        memory_mb=120.0,
    )
    assert table["refine"]["epochs_to_half"] == 3
    assert "| detr | 3 | – | 0.200 | 0.200 | 0.100 | 3.5 | 120 |" in markdown(table)
    assert "| two stage | – | – |" in markdown(table)


def test_detr_dc5_is_the_goal_where_there_is_one():
    aps = {"detr": [0.0, 0.1], "detr_dc5": [0.1, 0.3], "refine": [0.2, 0.4]}
    table = summarise([run(row, 0, ap) for row, ap in aps.items()])
    assert [cells["epochs"] for cells in table.values()] == [None, 20, 2]


def test_without_detr_the_two_stage_model_is_the_goal():
    table = summarise([run(row, 0, ap) for row, ap in {"two_stage": [0.1, 0.3], "dino": [0.4, 0.5]}.items()])
    assert [cells["epochs"] for cells in table.values()] == [2, 1]
    assert "epochs to AP of two stage" in markdown(table)


@pytest.mark.parametrize("baseline", [[run("detr", 0, [0.0, 0.0])], []])
def test_where_detr_has_learnt_nothing_there_is_nothing_to_reach(baseline):
    table = summarise([*baseline, run("refine", 0, [0.1, 0.2])])
    assert [cells["epochs"] for cells in table.values()] == [None] * len(table)
    assert table["refine"]["epochs_to_half"] == 1


def test_an_interrupted_run_has_several_logs(tmp_path):
    """The second epoch in the second; two iterations an epoch."""
    parts = {
        "1": [dict(epoch=1, iter=2, step=2, time=0.5), {"step": 1, "coco/bbox_mAP": 0.1}],
        "2": [dict(epoch=2, iter=4, step=4, time=1.5), {"step": 2, "coco/bbox_mAP": 0.2}],
    }
    for start, lines in parts.items():
        log = tmp_path / start / "vis_data" / "scalars.json"
        log.parent.mkdir(parents=True)
        lines = [*lines, {"step": int(start), "coco/bbox_mAP_s": 0.0}]
        log.write_text("\n".join(map(json.dumps, lines)))
    done = read_run("refine", 0, tmp_path, max_rss_mb=7.0)
    assert done.curves == dict(AP=[0.1, 0.2], AP_S=[0.0, 0.0])
    assert (done.seconds_per_epoch, done.memory_mb) == (1.0, 7.0)


@pytest.mark.slow
def test_studies_are_trained_once_and_told(tmp_path, small_run, capfd, monkeypatch):
    out = tmp_path / "study"
    args = ["--rows", "detr", "encoder_only", "--quick", "--jobs", "2", "--out", str(out)]
    main(args)
    rows = list(csv.DictReader((out / "curves.csv").open()))
    assert [(row["row"], row["seed"], row["epoch"]) for row in rows] == [
        ("detr", "0", "2"),
        ("encoder_only", "0", "1"),
    ]
    runs = json.loads((out / "results.json").read_text())["runs"]
    assert all(run["memory_mb"] > 100 and run["seconds_per_epoch"] > 0 for run in runs)
    assert (out / "convergence.png").stat().st_size > 10_000
    assert "[2/2]" in capfd.readouterr().out
    log = (out / "detr_seed0" / "train.log").read_text()
    assert "Epoch(train) [2][10/10]" in log and f"{out}/backbone.pth" in log
    assert list(read_matches(out / "detr_seed0" / "matches.csv")) == [2]
    sparsity = list(csv.DictReader((out / "detr_seed0" / "attention.csv").open()))
    assert [row["stage"] for row in sparsity] == ["encoder"] * 2 + ["decoder"] * 3
    assert all(float(row["even"]) == pytest.approx(-math.log(9)) for row in sparsity)  # tokens of 3 x 3

    monkeypatch.setattr(convergence_study.subprocess, "Popen", None)  # nothing is trained again
    main(args)
    assert json.loads((out / "results.json").read_text())["runs"] == runs


def test_instability_is_the_share_of_objects_with_another_query(tmp_path):
    """The second epoch stands there twice, as a resumed run writes it."""
    queries = {1: [3, 5, 0, 1], 2: [3, 4, 1, 1], 4: [3, 4, 1, 2]}
    for epoch in (1, 2, 2, 4):
        pairs = zip("aabb", "0101", queries[epoch], strict=True)
        rows = [dict(epoch=epoch, image=image, object=index, query=query) for image, index, query in pairs]
        append(tmp_path / "matches.csv", rows)
    assert instability(read_matches(tmp_path / "matches.csv")) == {2: 0.5, 4: 0.25}


def test_a_folder_holds_one_study(tmp_path, one_line_error):
    (tmp_path / "options.json").write_text('["--epochs=3"]')
    error = one_line_error(main, "--out", tmp_path, "--epochs", "4")
    assert f"{tmp_path}/options.json: this study was begun with --epochs=3" in error


def test_a_failed_training_is_named(tmp_path, one_line_error, monkeypatch):
    command = [sys.executable, "-c", "import sys; sys.exit('no images')"]
    monkeypatch.setattr(convergence_study, "prepare", lambda _: None)
    monkeypatch.setattr(convergence_study, "train_command", lambda *_: command)
    error = one_line_error(main, "--rows", "refine", "--seeds", "0", "--out", tmp_path / "study")
    log = tmp_path / "study" / "refine_seed0" / "train.log"
    assert error == f"error: the run refine, seed 0, has failed; {log} tells why"
    assert log.read_text() == "no images\n"


def test_commands_can_be_looked_at(tmp_path, capsys):
    main(["--dry-run", "--out", str(tmp_path / "study"), "--epochs", "7"])
    commands = capsys.readouterr().out.splitlines()
    assert len(commands) == 2 * len(CONFIGS)
    assert commands[-1].endswith("dino_seed1/run.py --resume --work-dir " + f"{tmp_path}/study/dino_seed1")
    assert not (tmp_path / "study").exists()
