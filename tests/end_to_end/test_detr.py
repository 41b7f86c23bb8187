"""mmdet's DETR trains, resumes and tests by the same commands."""

import json
import pickle
import runpy
from pathlib import Path

import torch

REPO = Path(__file__).resolve().parents[2]
run_train = runpy.run_path(str(REPO / "tools" / "train.py"))["main"]
run_test = runpy.run_path(str(REPO / "tools" / "test.py"))["main"]


def entries(work_dir: Path, key: str) -> list[dict]:
    logs = sorted(work_dir.glob("*/vis_data/scalars.json"))
    lines = [json.loads(line) for log in logs for line in log.read_text().splitlines()]
    return [line for line in lines if key in line]


def test_trains_resumes_and_tests(tmp_path, small_run, shapes_root):
    config = str(REPO / "configs" / "shapes" / "detr_r18_shapes.py")

    def options(step: str, *more: str) -> list[str]:
        names = [f"{key}=detr_{step}" for key in ("experiment_name", "visualizer.name")]
        data = [f"data_root={shapes_root}/", "train_dataloader.batch_size=4"]
        return ["--work-dir", str(tmp_path), "--cfg-options", *names, *data, *more]

    lengths = [f"train_cfg.{key}=1" for key in ("max_epochs", "val_interval")]
    run_train([config, *options("train", *lengths)])
    run_train([config, "--resume", *options("resume", "train_cfg.max_epochs=2", lengths[1])])
    assert [line["step"] for line in entries(tmp_path, "coco/bbox_mAP_s")] == [1, 2]
    first, second = (
        torch.load(tmp_path / f"epoch_{i}.pth", weights_only=False)["state_dict"] for i in (1, 2)
    )
    assert first.keys() == second.keys()
    assert not torch.equal(*(weights["encoder.layers.0.norms.0.weight"] for weights in (first, second)))

    out = tmp_path / "results.pkl"
    run_test([config, str(tmp_path / "epoch_2.pth"), "--out", str(out), *options("test")])
    results = pickle.loads(out.read_bytes())
    assert len(results) == 4
    for result in results:
        scores, boxes = result["pred_instances"]["scores"], result["pred_instances"]["bboxes"]
        assert (scores.diff() <= 0).all() and ((boxes >= 0) & (boxes <= 64)).all()
