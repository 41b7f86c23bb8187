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
DATASET = "train_dataloader.dataset"


@pytest.fixture
def read(tmp_path):
    (tmp_path / "base.py").write_text(BASE)
    (tmp_path / "middle.py").write_text("_base_ = 'base.py'\nclasses = _base_.classes + ('d',)\n")

    def read(text: str, options: dict | None = None, base: str = "base.py"):
        path = tmp_path / "mine.py"
        path.write_text(f"_base_ = {base!r}\n{text}\n")
        return read_files(path, options or {})

    return read


@pytest.mark.parametrize(
    ("text", "options", "base", "expected"),
    [
        ("max_epochs = 2", {}, "base.py", {"train_cfg.max_epochs": 2, "param_scheduler.0.T_max": 1}),
        ("", {"max_epochs": 2}, "base.py", {"train_cfg.max_epochs": 2, "param_scheduler.0.T_max": 1}),
        ("classes = ('x',)", {}, "base.py", {"model.num_classes": 1}),
        ("root = 'data/mine'", {}, "base.py", {"val_evaluator.ann_file": "data/mine/val.json"}),
        ("pipeline = [dict(type='Load')]", {}, "base.py", {f"{DATASET}.pipeline": [dict(type="Load")]}),
        ("", {"pipeline.1.prob": 1.0}, "base.py", {f"{DATASET}.pipeline.1.prob": 1.0}),
        # What is made of the inherited value is made once.
        ("", {}, "middle.py", {"model.num_classes": 4}),
        ("max_epochs = _base_.max_epochs + 1", {}, "base.py", {"train_cfg.max_epochs": 61}),
        ("max_epochs = {{_base_.max_epochs}}", {}, "base.py", {"train_cfg.max_epochs": 60}),
        # What is made of another inherited value follows that.
        (
            "max_epochs = 5\nclasses = ('x',) * len(_base_.param_scheduler) * _base_.max_epochs",
            *({}, "base.py", {"model.num_classes": 5}),
        ),
        # Keys of the runner are merged as ever.
        (
            "train_cfg = dict(val_interval=3)",
            {},
            "base.py",
            {"train_cfg": dict(max_epochs=60, val_interval=3)},
        ),
        ("optim_wrapper = dict(_delete_=True, type='A')", {}, "base.py", {"optim_wrapper": dict(type="A")}),
    ],
)
def test_a_name_has_one_value(read, text, options, base, expected):
    cfg = read(text, options, base)
    for key, value in expected.items():
        found = cfg
        for part in key.split("."):
            found = found[int(part) if part.isdigit() else part]
        assert found == value, key


@pytest.mark.parametrize(
    "text",
    ["a, max_epochs = 1, 2", "max_epochs: int = 2", "if True:\n    max_epochs = 2", "max_epochs = a = 2"],
)
def test_any_statement_may_set_it_in_either_file(read, tmp_path, text):
    assert read(text).train_cfg.max_epochs == 2
    (tmp_path / "other.py").write_text(BASE.replace("max_epochs = 60", text.replace("2", "60")))
    cfg = read("max_epochs = 3", base="other.py")
    assert cfg.train_cfg.max_epochs == 3 and cfg.param_scheduler[0].T_max == 2


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
        ("CLASSES = ('x',)", {}, "classes"),
        # Of MMDetection 2.
        ("runner = dict(max_epochs=2)", {}, "train_cfg"),
        ("lr_config = dict(policy='step')", {}, "param_scheduler"),
        ("data = dict(samples_per_gpu=2)", {}, "train_dataloader"),
        ("evaluation = dict(interval=1)", {}, "val_evaluator"),
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
