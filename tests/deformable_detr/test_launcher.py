"""What the tools make of their arguments."""

from argparse import ArgumentParser
from pathlib import Path

import pytest

from projects.deformable_detr.launcher import add_common_arguments, read_config

CONFIGS = Path(__file__).parents[2] / "configs"


def read(tmp_path: Path, name: str, *options: str):
    parser = ArgumentParser()
    parser.add_argument("config")
    add_common_arguments(parser)
    return read_config(
        parser.parse_args([str(CONFIGS / name), "--work-dir", str(tmp_path), *options])
    )


@pytest.mark.parametrize("root", ["/data/elsewhere", "/data/elsewhere/"])
@pytest.mark.parametrize(
    ("name", "ann_file"),
    [
        ("ddetr_r50_50e_two_stage.py", "annotations/instances_val2017.json"),
        ("ddetr_r18_custom.py", "annotations/val.json"),
    ],
)
def test_data_root_moves_every_path_of_the_data(tmp_path, root, name, ann_file):
    cfg = read(tmp_path, name, "--cfg-options", f"data_root={root}", "model.num_queries=7")
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        assert Path(loader.dataset.data_root) == Path(root)
    for evaluator in (cfg.val_evaluator, cfg.test_evaluator):
        assert Path(evaluator.ann_file) == Path(root, ann_file)
    assert cfg.model.num_queries == 7
