"""What a file says of its detector comes back from it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config, ConfigDict

from projects.deployment.description import Description
from projects.reliable_runner.errors import InputError


def test_comes_back_as_it_was():
    config = Config(dict(scale=(1333, 800), mean=[1.5, None], model=dict(head=ConfigDict(a="it's"))))
    config.clip = dict(norm_type=float("inf"), least=-float("inf"))
    config.model.head.test_cfg = [ConfigDict(n=torch.ones(2))]
    description = Description(config, ["caf\u00e9", "b"], 3)
    config, *others = Description.read(description.texts(), "a.onnx")
    assert config.clip == dict(norm_type=float("inf"), least=-float("inf"))
    assert config.scale == (1333, 800) and config.mean == [1.5, None]
    assert config.model.head == dict(a="it's", test_cfg=[dict(n=[1, 1])])
    assert others == [["caf\u00e9", "b"], 3]


@pytest.mark.parametrize("value", [float("nan"), Path("a"), np.float64(1)])
def test_refuses_a_config_that_is_no_literal(value):
    config = Config(dict(model=dict(heads=[dict(a=1), dict(b=(value,))])))
    with pytest.raises(InputError, match=r"model.heads.b is .*, which is no literal"):
        Description(config, ["a"], 3).texts()


def test_refuses_a_file_of_another_tool():
    with pytest.raises(InputError, match="a.onnx: it was not written by tools/deployment/export.py"):
        Description.read({"author": "someone"}, "a.onnx")
