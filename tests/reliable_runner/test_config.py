"""A name of a config has one value in all files that it inherits."""

from pathlib import Path

import pytest

from projects.reliable_runner.config import read_files
from projects.reliable_runner.errors import InputError

BASE = """
max_epochs = 60
root = "data/base/"
classes = ("a", "b", "c")
pipeline = [dict(type="Load"), dict(type="Flip",
                                    prob=0.5)]
train_cfg = dict(max_epochs=max_epochs)
param_scheduler = [dict(type="CosineAnnealingLR", T_max=max_epochs - 1)]
model = dict(num_classes=len(classes))
train_dataloader = dict(batch_size=4, dataset=dict(pipeline=pipeline))
val_evaluator = dict(ann_file=root + "val.json")
optim_wrapper = dict(optimizer=dict(lr=1e-4))
"""


@pytest.fixture
def read(tmp_path):
    (tmp_path / "base.py").write_text(BASE)
    (tmp_path / "middle.py").write_text("_base_ = 'base.py'\nclasses = _base_.classes + ('d',)\n")

    def read(text: str, options: dict | None = None, base: str = "base.py"):
        path = tmp_path / "mine.py"
        path.write_text(f"_base_ = {base!r}\n{text}\n")
        return read_files(path, options or {})

    return read


@pytest.mark.parametrize("as_option", [False, True])
def test_a_value_reaches_the_inherited_files(read, as_option):
    cfg = read("", {"max_epochs": 2}) if as_option else read("max_epochs = 2")
    assert cfg.train_cfg.max_epochs == 2 and cfg.param_scheduler[0].T_max == 1


def test_classes_folder_and_pipeline_reach_them_too(read):
    cfg = read("classes = ('x',)\nroot = 'data/mine'\npipeline = [dict(type='Load')]")
    assert cfg.model.num_classes == 1
    assert cfg.val_evaluator.ann_file == "data/mine/val.json"
    assert cfg.train_dataloader.dataset.pipeline == [dict(type="Load")]


@pytest.mark.parametrize(
    "text",
    ["a, max_epochs = 1, 2", "max_epochs: int = 2", "if True:\n    max_epochs = 2", "max_epochs = a = 2"],
)
def test_any_statement_may_set_it_in_either_file(read, tmp_path, text):
    assert read(text).train_cfg.max_epochs == 2
    (tmp_path / "other.py").write_text(BASE.replace("max_epochs = 60", text.replace("2", "60")))
    cfg = read("max_epochs = 3", base="other.py")
    assert cfg.train_cfg.max_epochs == 3 and cfg.param_scheduler[0].T_max == 2


def test_what_is_made_of_the_inherited_value_is_made_once(read):
    assert read("", base="middle.py").model.num_classes == 4
    assert read("max_epochs = _base_.max_epochs + 1").train_cfg.max_epochs == 61
    assert read("max_epochs = {{_base_.max_epochs}}").train_cfg.max_epochs == 60


def test_what_is_made_of_another_inherited_value_follows_that(read):
    cfg = read("max_epochs = 5\nclasses = ('x',) * len(_base_.param_scheduler) * _base_.max_epochs")
    assert cfg.model.num_classes == 5


def test_an_option_reaches_into_an_inherited_list(read):
    cfg = read("", {"pipeline.1.prob": 1.0})
    assert cfg.train_dataloader.dataset.pipeline[1].prob == 1.0


def test_keys_of_the_runner_are_merged_as_ever(read):
    cfg = read("train_cfg = dict(val_interval=3)\noptim_wrapper = dict(_delete_=True, type='A')")
    assert cfg.train_cfg == dict(max_epochs=60, val_interval=3)
    assert cfg.optim_wrapper == dict(type="A")


@pytest.mark.parametrize(
    ("text", "options", "key"),
    [
        ("lr = 1e-5", {}, "optim_wrapper.optimizer.lr"),
        ("", {"lr": 1e-5}, "optim_wrapper.optimizer.lr"),
        ("batch_size = 2", {}, "train_dataloader.batch_size"),
        ("epochs = 2", {}, "max_epochs"),
        ("num_epochs = 2", {}, "max_epochs"),
        ("clases = ('x',)", {}, "classes"),
        ("optim_wraper = dict()", {}, "optim_wrapper"),
        ("", {"max_epoch": 2}, "max_epochs"),
    ],
)
def test_a_name_that_nothing_reads_is_refused_with_the_key_that_would_do(read, text, options, key):
    name = text.partition(" =")[0] or next(iter(options))
    with pytest.raises(InputError, match=rf"mine\.py: nothing reads '{name}'.*{key}'"):
        read(text, options)


def test_a_name_in_the_middle_is_refused_too(read, tmp_path):
    (tmp_path / "middle.py").write_text("_base_ = 'base.py'\nepochs = 3\n")
    with pytest.raises(InputError, match=r"middle\.py: nothing reads 'epochs'; did you mean 'max_epochs'"):
        read("", base="middle.py")


def test_a_config_that_a_run_has_written_is_read_as_it_is(read, tmp_path):
    cfg = read("max_epochs = 2\nmy_own = 3")
    written = Path(tmp_path, "written.py")
    cfg.dump(written)
    assert read_files(written, {}).to_dict() == cfg.to_dict()
    with pytest.raises(InputError, match="nothing reads 'max_epochs'.*'train_cfg.max_epochs'"):
        read_files(written, {"max_epochs": 5})


def test_an_error_of_an_inherited_file_keeps_its_line(read, tmp_path):
    with open(tmp_path / "base.py", "a") as file:
        file.write("missing_name\n")
    line = BASE.count("\n") + 1
    with pytest.raises(NameError) as error:
        read("pipeline = []")
    assert error.traceback[-1].lineno + 1 == line
