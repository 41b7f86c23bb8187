"""A study of two rows, and its numbers against ones counted by hand."""

import json
import math
import sys
from argparse import Namespace
from pathlib import Path

import pytest
import torch
from mmengine.registry import init_default_scope

from benchmarks.random_batch import random_batch
from projects.deformable_detr.registry import MODELS
from projects.reliable_runner.errors import InputError
from projects.reliable_runner.launcher import parse_config
from studies import convergence as convergence_study
from studies.convergence import main
from studies.figures import ABLATIONS, convergence, epoch_of_equal_time, evenness, table, write_results
from studies.observe import instability, read_matches
from studies.results import Run, collect, markdown, read_run, read_study, run_path, summarise, write_run
from studies.rows import FIGURE_3, ROWS, STUDIES, TABLE_2
from studies.size_metric import SizeMetric
from studies.table import write_rows

REPO = Path(__file__).resolve().parents[2]


def run(row: str, seed: int, ap: list[float], memory: float = 100.0) -> Run:
    epochs = [10 * (i + 1) if row == "detr_dc5" else i + 1 for i in range(len(ap))]
    curves = dict(AP=ap, AP_S=[x / 2 for x in ap])
    curves = {name: dict(zip(epochs, values, strict=True)) for name, values in curves.items()}
    last = dict(seconds_per_epoch={epochs[-1]: 3.0 + seed}, memory_mb={epochs[-1]: memory})
    return Run(row, seed, curves | last)


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
    assert [cells["epochs"] for cells in table.values()] == pytest.approx([3, 2, None])
    assert table["detr"] == dict(
        seeds=2,
        AP=pytest.approx(0.2),
        AP_spread=pytest.approx(0.2),
        AP_S=pytest.approx(0.1),
        epochs=pytest.approx(3),
        factors=[1.0, 1.0],
        seconds_per_epoch=3.0,
        memory_mb=120.0,
    )
    # 0.3 after 2.5 epochs instead of 3, 0.1 after 1 instead of 2.
    assert table["refine"]["factors"] == pytest.approx([1.2, 2.0])
    assert table["two_stage"]["factors"] == [None]
    assert "| detr | 2 | 3.0 | 1.0, 1.0 | 0.00 | 0.200 | 0.200 | 0.100 | 3.0 | 120 |" in markdown(table)
    assert "| two stage | 1 | – | – | – | 0.100 | – |" in markdown(table)


@pytest.mark.parametrize(
    ("aps", "goal", "epochs"),
    [
        (dict(detr=[0.0, 0.1], detr_dc5=[0.1, 0.3], refine=[0.2, 0.4]), "detr dc5", [None, 20, 1.5]),
        (dict(two_stage=[0.1, 0.3], dino=[0.4, 0.5]), "two stage", [2, 0.75]),
        (dict(detr=[0.0, 0.0], refine=[0.1, 0.2]), "detr", [None, None]),  # it has learnt nothing
        (dict(refine=[0.1, 0.2]), "", [None]),
    ],
)
def test_the_goal_is_the_last_ap_of_detr_or_of_the_two_stage_model(aps, goal, epochs):
    table = summarise([run(row, 0, ap) for row, ap in aps.items()])
    assert [cells["epochs"] for cells in table.values()] == pytest.approx(epochs)
    assert (f"epochs to AP of {goal} |" in markdown(table)) == bool(goal)


def test_an_interrupted_run_has_several_logs(tmp_path):
    """The second epoch in the second; two iterations an epoch."""
    parts = {
        "1": [dict(epoch=1, iter=2, step=2, time=0.5), {"step": 1, "coco/bbox_mAP": 0.1}],
        "2": [dict(epoch=2, iter=4, step=4, time=1.5), {"step": 2, "coco/bbox_mAP": 0.2}],
    }
    for start, lines in parts.items():
        log = tmp_path / start / "vis_data" / "scalars.json"
        log.parent.mkdir(parents=True)
        lines = [*lines, {"step": int(start), "coco/bbox_mAP_s": 0.0, "coco/bbox_mAP_12-16": 0.3}]
        log.write_text("\n".join(map(json.dumps, lines)))
        sparsity = dict(epoch=start, stage="encoder", layer=0, negative_entropy=-0.5 * int(start), even=-4)
        match = dict(epoch=start, image=0, object=0, query=start)
        for name, row in (("attention.csv", sparsity), ("matches.csv", match)):
            write_rows(tmp_path / name, [row], append=True)
    done = collect("refine", 0, tmp_path, max_rss_mb=7.0)
    assert done.curves == {
        "AP": {1: 0.1, 2: 0.2},
        "AP_S": {1: 0.0, 2: 0.0},
        "AP_12-16": {1: 0.3, 2: 0.3},
        "negative_entropy encoder 0": {1: -0.5, 2: -1.0},
        "even encoder 0": {1: -4.0, 2: -4.0},
        "instability": {2: 1.0},
        "seconds_per_epoch": {2: 1.0},
        "memory_mb": {2: 7.0},
    }
    assert evenness(done) == dict(encoder={1: 0.125, 2: 0.25})
    write_run(tmp_path, done)
    assert read_study(tmp_path, ["detr", "refine"]) == [done]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("AP,1,0.5", "has no AP_S, memory_mb, seconds_per_epoch"),
        ("AP,10,0.1\nAP_S,10", r", line 3: \['AP_S', '10'\] is no name, epoch and value"),
        ("AP,10,0,1", r", line 2: \['AP', '10', '0', '1'\] is no name"),
        ("AP,10,a", ", line 2: .* is no name"),
        ("AP,1,nan\nAP_S,1,0\nmemory_mb,1,1\nseconds_per_epoch,1,1", "holds NaN"),
    ],
)
def test_numbers_that_are_damaged_are_named(text, told, tmp_path):
    path = tmp_path / "detr_seed0.csv"
    path.write_text(f"name,epoch,value\n{text}\n")
    with pytest.raises(InputError, match=f"{path}.*{told}"):
        read_run(path)


def test_lines_may_stand_in_any_order(tmp_path):
    path = run_path(tmp_path, "refine", 3)
    done = run("refine", 3, [0.1, 0.3, 0.5])
    write_run(tmp_path, done)
    head, *lines = path.read_text().splitlines()
    path.write_text("\n".join([head, *sorted(lines, reverse=True)]))
    assert read_run(path) == done and read_run(path).last("AP") == 0.5


@pytest.mark.slow
def test_studies_are_trained_once_and_told(tmp_path, small_run, capfd, monkeypatch):
    out = tmp_path / "study"
    results = tmp_path / "numbers"
    args = ["--rows", "detr", "encoder_only", "--quick", "--jobs", "2", "--out", str(out)]
    main([*args, "--results", str(results)])
    detr, encoder_only = (read_run(run_path(results, row, 0)) for row in ("detr", "encoder_only"))
    assert (detr.epochs, encoder_only.epochs) == ([2], [1])
    assert {"AP_S", "AP_20-24", "AP_64-81"} < detr.curves.keys()
    for done in (detr, encoder_only):
        assert done.last("memory_mb") > 100 and done.last("seconds_per_epoch") > 0
    for layer in ("encoder 0", "encoder 1", "decoder 0", "decoder 1", "decoder 2"):  # tokens of 3 x 3
        assert detr.curves[f"even {layer}"] == pytest.approx(dict.fromkeys((0, 2), -math.log(9)), abs=1e-4)
        assert detr.curves[f"negative_entropy {layer}"][0] == pytest.approx(-math.log(9), rel=0.05)
    for picture in ("figure_3", "explanation", "sizes"):
        assert (results / f"{picture}.png").stat().st_size > 10_000
    assert "[2/2]" in capfd.readouterr().out
    log = (out / "detr_seed0" / "train.log").read_text()
    assert "Epoch(train) [2][20/20]" in log and f"{out}/backbone.pth" in log
    assert list(read_matches(out / "detr_seed0" / "matches.csv")) == [2]

    monkeypatch.setattr(convergence_study, "prepare", None)
    monkeypatch.setattr(convergence_study.subprocess, "Popen", None)  # nothing is trained again
    table = (results / "figure_3.md").read_text()
    main([*args[:2], *args[3:], "--results", str(results)])  # draws the other row, too
    assert (results / "figure_3.md").read_text() == table


@pytest.mark.parametrize("row", FIGURE_3 | TABLE_2)
def test_every_row_is_a_model_that_trains(row, small_run):
    config = REPO / "configs" / "shapes" / f"{ROWS[row].config}.py"
    cfg = parse_config(Namespace(config=config, cfg_options=dict(ROWS[row].options)))
    init_default_scope(cfg.default_scope)
    model = MODELS.build(cfg.model)
    torch.manual_seed(0)
    model.init_weights()
    batch = random_batch(1, 96, 96, num_classes=3)
    batch["data_samples"][0].set_metainfo(dict(img_id=0, img_path=""))
    batch = model.data_preprocessor(batch, True)
    losses = model.loss(batch["inputs"], batch["data_samples"])
    assert all(torch.as_tensor(value).isfinite().all() for value in losses.values())


def test_ap_is_measured_between_each_two_sizes():
    """Two shapes of 14 pixels, one of them found, and one of 60, found too, but as another class."""
    metric = SizeMetric(sides=[12, 16, 48, 73], metric="bbox")
    metric.dataset_meta = dict(classes=("circle", "square"))
    truth = [([0, 0, 14, 14], 0), ([30, 30, 44, 44], 0), ([20, 20, 80, 80], 1)]
    instances = [dict(bbox=box, bbox_label=label, ignore_flag=0) for box, label in truth]
    image = dict(img_id=1, ori_shape=(96, 96), img_path="a.png", instances=instances)
    found = dict(
        bboxes=torch.tensor([[0.0, 0, 14, 14], [20, 20, 80, 80]]),
        scores=torch.tensor([0.9, 0.8]),
        labels=torch.tensor([0, 0]),
    )
    metric.process({}, [image | dict(pred_instances=found)])
    metrics = metric.evaluate(1)
    assert metrics["coco/bbox_mAP_12-16"] == pytest.approx(51 / 101)  # recall 0.5 at precision 1
    assert metrics["coco/bbox_mAP_16-48"] == -1
    assert metrics["coco/bbox_mAP_48-73"] == 0


def test_ablations_are_compared_without_a_goal(tmp_path):
    runs = [run(row, 0, [0.1, 0.2]) for row in ("multi_scale", "1_point", "levelwise")]
    write_results(tmp_path, "table_2", runs)
    text = (tmp_path / "table_2.md").read_text()
    assert text.splitlines()[3] == "| 1 point | 1 | 0.200 | – | 0.100 | 3.0 | 100 |"
    assert (tmp_path / "table_2.png").stat().st_size > 10_000
    assert {row for panel in ABLATIONS.values() for row in panel.values()} == TABLE_2.keys()


def test_a_study_in_which_nothing_is_learnt_is_drawn(tmp_path):
    convergence([run(row, 0, [0.0, 0.0]) for row in ("detr_dc5", "refine")]).savefig(tmp_path / "figure.png")


@pytest.mark.parametrize(("study", "rows"), STUDIES.items())
def test_the_docs_tell_the_numbers_that_they_hold(study, rows):
    """The written table, and its copy in the text, are those of the CSV files."""
    docs = REPO / "docs"
    numbers = table(study, read_study(docs / "convergence", rows))
    assert numbers in (docs / "convergence.md").read_text()
    assert numbers == (docs / "convergence" / f"{study}.md").read_text()


def test_learning_rates_are_compared_on_the_seeds_of_all(tmp_path):
    aps = {"multi_scale_lr_5e-4": [0.3], "multi_scale": [0.5, 0.6], "multi_scale_lr_2e-3": [0.4, 0.9]}
    aps |= {"detr_lr_1e-4": [0.1], "detr_lr_2e-4": [0.2], "detr": [0.4, 0.6], "detr_lr_8e-4": [0.3]}
    runs = [run(row, seed, [0.1, ap]) for row, of_row in aps.items() for seed, ap in enumerate(of_row)]
    write_results(tmp_path, "search", [*runs, run("refine", 0, [0.1, 0.2])])
    lines = (tmp_path / "search.md").read_text().splitlines()
    assert lines[2:] == [
        "| DETR | 0.100 | 0.200 | 0.400 | 0.300 |",
        "| multi scale | – | 0.300 | 0.500 | 0.400 |",
    ]


def test_instability_is_the_share_of_objects_with_another_query(tmp_path):
    """The second epoch stands there twice, as a resumed run writes it."""
    queries = {1: [3, 5, 0, 1], 2: [3, 4, 1, 1], 4: [3, 4, 1, 2]}
    for epoch in (1, 2, 2, 4):
        pairs = zip("aabb", "0101", queries[epoch], strict=True)
        rows = [dict(epoch=epoch, image=image, object=index, query=query) for image, index, query in pairs]
        write_rows(tmp_path / "matches.csv", rows, append=True)
    assert instability(read_matches(tmp_path / "matches.csv")) == {2: 0.5, 4: 0.25}


def test_a_folder_holds_one_study(tmp_path, one_line_error):
    (tmp_path / "options.json").write_text('["--epochs=3"]')
    results = tmp_path / "new"
    error = one_line_error(main, "--out", tmp_path, "--epochs", "4", "--results", results)
    assert f"{tmp_path}/options.json: this study was begun with --epochs=3" in error
    assert not list(results.iterdir())
    (tmp_path / "file").touch()
    error = one_line_error(main, "--out", tmp_path, "--results", tmp_path / "file")
    assert f"{tmp_path}/file: the folder of the study can't be made" in error


def test_a_row_of_the_other_study_is_refused(one_line_error):
    error = one_line_error(main, "--rows", "1_point", "dino")
    assert "--rows 1_point: the rows of figure_3 are detr, detr_dc5" in error


def test_a_failed_training_is_named(tmp_path, one_line_error, monkeypatch):
    command = [sys.executable, "-c", "import sys; sys.exit('no images')"]
    monkeypatch.setattr(convergence_study, "prepare", lambda _: None)
    monkeypatch.setattr(convergence_study, "train_command", lambda *_: command)
    error = one_line_error(main, "--rows", "refine", "dino", "--seeds", "0", "0", "--out", tmp_path / "study")
    logs = [tmp_path / "study" / f"{row}_seed0" / "train.log" for row in ("refine", "dino")]
    assert [error.count(f"seed 0, has failed; {log} tells why") for log in logs] == [1, 1]
    assert [log.read_text() for log in logs] == ["no images\n"] * 2


def test_commands_can_be_looked_at(tmp_path, capsys):
    main(["--dry-run", "--out", str(tmp_path / "study"), "--epochs", "7"])
    commands = capsys.readouterr().out.splitlines()
    assert len(commands) == 3 * len(FIGURE_3)
    assert commands[-1].endswith("dino_seed2/run.py --resume --work-dir " + f"{tmp_path}/study/dino_seed2")
    main(["--dry-run", "--out", str(tmp_path / "study"), "--study", "table_2", "--seeds", "0"])
    commands = capsys.readouterr().out.splitlines()
    assert len(commands) == len(TABLE_2)
    assert "model.encoder.layer_cfg.self_attn_cfg.num_points=1" in commands[1]
    main(["--dry-run", "--out", str(tmp_path / "study"), "--study", "search", "--rows", "dn_lr_2e-3"])
    assert capsys.readouterr().out.splitlines()[0].endswith("--cfg-options optim_wrapper.optimizer.lr=2e-3")
    assert not (tmp_path / "study").exists()


def test_equal_time_is_the_last_epoch_within_it():
    """12 epochs of 50 s end before the 11th of 60 s."""
    one, four = (
        Run(row, 0, dict(AP=dict.fromkeys(range(1, 13), 0.1))) for row in ("single_scale", "multi_scale")
    )
    one.curves["seconds_per_epoch"], four.curves["seconds_per_epoch"] = {12: 50}, {12: 60}
    assert epoch_of_equal_time([four], [one]) == 10
    assert epoch_of_equal_time([one], [four]) is None
