"""What the tools make of their arguments."""

import io
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.registry import HOOKS, PARAM_SCHEDULERS, DefaultScope

from projects.reliable_runner.errors import InputError
from projects.reliable_runner.launcher import add_common_arguments, parse_config, read_config, run_tool

CONFIGS = Path(__file__).parents[2] / "configs"


def read(tmp_path: Path, name: str, *options: str):
    parser = ArgumentParser()
    parser.add_argument("config")
    add_common_arguments(parser)
    return read_config(parser.parse_args([str(CONFIGS / name), "--work-dir", str(tmp_path), *options]))


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


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("/data/my  photos (1)/a b", "/data/my  photos (1)/a b"),
        ('"/data/a, b"', "/data/a, b"),
        ("o'brien", "o'brien"),
        ("[traffic light, car]", ["traffic light", "car"]),
        ("('red, box', 'car')", ("red, box", "car")),
        ("[(1, 2), (a b, 1e-5)]", [(1, 2), ("a b", 1e-5)]),
        ("'[1, 2]'", [1, 2]),
        ("1, 2", [1, 2]),
        ("true", True),
        ("'1'", 1),
    ],
)
def test_names_in_options_keep_their_spaces(tmp_path, text, value):
    cfg = read(tmp_path, "ddetr_r18_custom.py", "--cfg-options", f"log_level={text}")
    assert cfg.log_level == value and type(cfg.log_level) is type(value)


@pytest.mark.parametrize("root", ["/data/my photos", "2024"])
def test_data_root_is_a_folders_name(tmp_path, root):
    cfg = read(tmp_path, "ddetr_r18_custom.py", "--cfg-options", f"data_root={root}")
    assert cfg.train_dataloader.dataset.data_root == f"{root}/"


@pytest.mark.parametrize("option", ["model.num_queries=[1,2", "load_from"])
def test_option_that_is_no_value_is_a_usage_error(tmp_path, capsys, option):
    with pytest.raises(SystemExit, match="2"):
        read(tmp_path, "ddetr_r18_custom.py", "--cfg-options", option)
    assert "is not of the form KEY=VALUE, with its brackets" in capsys.readouterr().err


def test_option_that_does_not_fit_is_named(tmp_path):
    with pytest.raises(InputError, match=r"--cfg-options do not fit .*ddetr_r18_custom\.py"):
        read(tmp_path, "ddetr_r18_custom.py", "--cfg-options", "model.backbone.depth.x=1")


def test_a_missing_module_is_one_line(heir):
    config = heir("custom_imports = dict(imports=['not_there.at_all'])", base=CONFIGS / "ddetr_r18_custom.py")
    missing = (
        r"custom_imports: Failed to import not_there\.at_all \(No module named 'not_there'\); .*PYTHONPATH$"
    )
    with pytest.raises(InputError, match=missing):
        parse_config(Namespace(config=str(config), cfg_options={}))


def test_a_syntax_error_of_a_module_is_placed_there(heir, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "unfinished.py").write_text("\ndef f(:\n")
    config = heir("custom_imports = dict(imports=['unfinished'])", base=CONFIGS / "ddetr_r18_custom.py")
    with pytest.raises(InputError, match=r"unfinished\.py, line 2: SyntaxError"):
        parse_config(Namespace(config=str(config), cfg_options={}))


def test_a_value_of_a_wrong_type_is_named_where_python_refuses_it(capsys):
    parameter = torch.nn.Parameter(torch.zeros(1))
    scheduler = dict(type="MultiStepLR", optimizer=torch.optim.SGD([parameter], 1.0), milestones=2)
    assert run_tool(lambda: PARAM_SCHEDULERS.build(scheduler)) == 1
    error = capsys.readouterr().err
    assert (
        error == "error: the config does not fit what builds the MultiStepLR: 'int' object is not iterable\n"
    )


@pytest.mark.parametrize(
    "read", [lambda sample: sample.ori_shape, lambda sample: sample.to_dict()["ori_shape"]]
)
def test_what_an_image_comes_without_is_named(capsys, read):
    assert run_tool(lambda: read(DetDataSample(metainfo=dict(img_id=1)))) == 1
    assert "an image comes without its 'ori_shape', which meta_keys of" in capsys.readouterr().err


def test_a_name_that_is_no_text_is_printed(monkeypatch):
    """Linux takes any bytes, which Python reads as lone surrogates; terminals lack other letters."""
    printed = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(printed, "latin-1", line_buffering=True))
    assert run_tool(lambda: print("saved \udce4 \u6f22")) == 0
    assert printed.getvalue().split() == [b"saved", rb"\udce4", rb"\u6f22"]


def test_interruption_is_told_in_one_line(capsys):
    def interrupted() -> None:
        raise KeyboardInterrupt

    assert run_tool(interrupted) == 130
    assert "--resume" in capsys.readouterr().err


def test_a_config_may_import_modules_of_its_own(heir):
    """Its list replaces that of the base config, whose hooks are found all the same."""
    config = heir("custom_imports = dict(imports=['json'])", base=CONFIGS / "ddetr_r18_custom.py")
    cfg = parse_config(Namespace(config=str(config), cfg_options={}))
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        assert HOOKS.build(cfg.default_hooks.dataset_report)
