"""mmengine's readers of pickles and YAML run nothing that a file asks for."""

import io
import pickle
from pathlib import Path

import mmengine
import numpy as np
import pytest
import torch

from projects.reliable_runner.errors import InputError


class Touch:
    """Pickles as a call that makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_predictions_are_read_as_they_were_written(tmp_path):
    found = dict(bboxes=torch.rand(3, 4), labels=torch.arange(3), scores=torch.rand(3).double())
    masks = [dict(size=[2, 2], counts=b"\x00\xff1")]
    results = [dict(img_id=7, ori_shape=(4, 5), scale=np.ones(2), masks=masks, pred_instances=found)]
    mmengine.dump(results, tmp_path / "results.pkl")
    (read,) = mmengine.load(tmp_path / "results.pkl")
    for key, value in found.items():
        assert torch.equal(read["pred_instances"].pop(key), value)
    assert (read.pop("scale") == 1).all()
    assert read == dict(img_id=7, ori_shape=(4, 5), masks=masks, pred_instances={})


class Storage:
    """Pickles as a tensor's storage that holds a call."""

    def __init__(self, path: Path) -> None:
        self.content = io.BytesIO()
        torch.save({"x": Touch(path)}, self.content)

    def __reduce__(self):
        return torch.storage._load_from_bytes, (self.content.getvalue(),)


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("call", [Touch, Storage])
def test_a_pickle_with_a_call_is_refused(tmp_path, call, protocol):
    path = tmp_path / "results.pkl"
    path.write_bytes(pickle.dumps([1, call(tmp_path / "canary")], protocol))
    with pytest.raises(InputError, match="nothing in it was run"):
        mmengine.load(path)
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("content", [b"", b"\x80", b"[1, 2]"])
def test_a_damaged_pickle(tmp_path, content):
    (tmp_path / "results.pkl").write_bytes(content)
    with pytest.raises(InputError, match="not a complete pickle"):
        mmengine.load(tmp_path / "results.pkl")


def test_yaml(tmp_path):
    path = tmp_path / "data.yaml"
    path.write_text("metainfo: {classes: [a, b]}\n")
    assert mmengine.load(path) == {"metainfo": {"classes": ["a", "b"]}}
    for text in (f"!!python/object/apply:os.system ['touch {tmp_path}/canary']", "a: [1"):
        path.write_text(text)
        with pytest.raises(InputError, match="no YAML of plain values"):
            mmengine.load(path)
    assert not (tmp_path / "canary").exists()
