"""Weights from the network are read as safely as local files."""

import shutil
from decimal import Decimal
from hashlib import sha256

import pytest
import torch
from mmengine.runner.checkpoint import _load_checkpoint as load

from projects.reliable_runner.errors import InputError
from projects.reliable_runner.files import pretrained


def test_downloads_once(web):
    folder, address = web
    torch.save({"w": torch.ones(3)}, folder / "weights.pth")
    for _ in range(2):
        assert load(f"{address}/weights.pth")["w"].sum() == 3
        (folder / "weights.pth").unlink(missing_ok=True)


def test_a_download_is_read_safely(web):
    folder, address = web
    torch.save({"state_dict": Decimal(1)}, folder / "foreign.pth")
    with pytest.raises(InputError, match="decimal.Decimal"):
        load(f"{address}/foreign.pth")


def test_says_what_a_failed_download_was_for(web):
    with pytest.raises(InputError, match=f"{web[1]}/nothing.pth: the download failed .*404.*init_cfg"):
        load(f"{web[1]}/nothing.pth")


@pytest.mark.parametrize("name", ["torchvision://resnet50", "open-mmlab://detectron/resnet50_caffe"])
def test_published_names(web, monkeypatch, name):
    """torchvision's file names end in the first digits of their SHA-256, which are compared."""
    folder, address = web
    torch.save({"w": torch.ones(3)}, folder / "a.pth")
    digest = sha256((folder / "a.pth").read_bytes()).hexdigest()[:8]
    table = {}
    monkeypatch.setattr(pretrained.mmengine, "load", lambda path: table)
    for ending in (digest, "0" * 8):
        shutil.copy(folder / "a.pth", folder / f"a-{ending}.pth")
        table[name.partition("://")[2]] = f"{address}/a-{ending}.pth"
        if ending == digest or name.startswith("open-mmlab"):
            assert load(name)["w"].sum() == 3
        else:
            with pytest.raises(InputError, match=f"has the SHA-256 {digest}.*, and not 00000000"):
                load(name)


@pytest.mark.parametrize("name", ["torchvision://resnet5", "open-mmlab://detectron/resnet50_cafe"])
def test_an_unknown_name(name):
    with pytest.raises(InputError, match=f"{name}: .*did you mean '.*resnet50"):
        load(name)


@pytest.mark.parametrize("scheme", ["s3", "petrel", "cluster:s3", "pavi", "mmcls"])
def test_stores_whose_files_would_be_read_unchecked_are_refused(scheme):
    with pytest.raises(InputError, match="fetch the checkpoint from there, and name the local"):
        load(f"{scheme}://bucket/a.pth")
