"""The backbone's names, sizes and settings."""

import sys
from types import ModuleType

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from projects.dat.backbone import DAT
from projects.dat.pretrained import load_official
from projects.reliable_runner.log import quiet
from tools.analysis_tools.get_flops import op_formulas

SMALL = dict(stages=("LS", "LS", "LD" * 9, "LD"))
BASE = dict(SMALL, embed_dims=128, num_heads=(4, 8, 16, 32), num_groups=(1, 1, 4, 8))
TINY = dict(
    embed_dims=8,
    stages=("LS", "D", "LD", "D"),
    num_heads=(1, 2, 4, 4),
    num_groups=(1, 1, 2, 4),
    window_size=4,
    pretrain_img_size=64,
)


def official_shapes(dims: int, heads: int, depth: int, groups: tuple[int, int]) -> dict:
    """Names and shapes of the official code's DAT-T (dims 96, 3 heads, depth 6), DAT-S or DAT-B.

    Written down from models/dat.py and models/dat_blocks.py of github.com/LeapLabTHU/DAT at 42b489e, the
    commit that published the checkpoints; without the classifier.
    """
    shapes = {}

    def layer(name: str, *weight: int, bias: bool = True) -> None:
        shapes[f"{name}.weight"] = weight
        if bias:
            shapes[f"{name}.bias"] = weight[:1]

    layer("patch_proj.0", dims, 3, 4, 4)
    layer("patch_proj.1.norm", dims)
    blocks = ("LS", "LS", "LD" * (depth // 2), "LD")
    for i, kinds in enumerate(blocks):
        c, h, side = dims * 2**i, heads * 2**i, 56 // 2**i
        if i:
            layer(f"down_projs.{i - 1}.0", c, c // 2, 2, 2, bias=False)
            layer(f"down_projs.{i - 1}.1.norm", c)
        for d, kind in enumerate(kinds):
            attn = f"stages.{i}.attns.{d}"
            layer(f"stages.{i}.layer_norms.{2 * d}.norm", c)
            layer(f"stages.{i}.layer_norms.{2 * d + 1}.norm", c)
            layer(f"stages.{i}.mlps.{d}.chunk.linear1", 4 * c, c)
            layer(f"stages.{i}.mlps.{d}.chunk.linear2", c, 4 * c)
            if kind == "D":
                width, kernel = c // groups[i - 2], (9, 7, 5, 3)[i]
                layer(f"{attn}.conv_offset.0", width, 1, kernel, kernel)
                layer(f"{attn}.conv_offset.1.norm", width)
                layer(f"{attn}.conv_offset.3", 2, width, 1, 1, bias=False)
                for name in ("proj_q", "proj_k", "proj_v", "proj_out"):
                    layer(f"{attn}.{name}", c, c, 1, 1)
                shapes[f"{attn}.rpe_table"] = (h, 2 * side - 1, 2 * side - 1)
            else:
                layer(f"{attn}.proj_qkv", 3 * c, c)
                layer(f"{attn}.proj_out", c, c)
                shapes[f"{attn}.relative_position_bias_table"] = (169, h)
                shapes[f"{attn}.relative_position_index"] = (49, 49)
            if kind == "S":
                shapes[f"{attn}.attn_mask"] = ((side // 7) ** 2, 49, 49)
    return shapes


@pytest.mark.parametrize(
    ("kwargs", "official"),
    [(dict(), (96, 3, 6, (3, 6))), (SMALL, (96, 3, 18, (3, 6))), (BASE, (128, 4, 18, (4, 8)))],
    ids=["T", "S", "B"],
)
def test_names_and_shapes_are_the_official_codes(kwargs, official):
    with torch.device("meta"):
        model = DAT(**kwargs)
    ours = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    # The norms of the outputs are a detector's; the mask of shifted windows is made for each image.
    ours = {name: shape for name, shape in ours.items() if not name.startswith("norms.")}
    theirs = official_shapes(*official)
    assert ours == {name: shape for name, shape in theirs.items() if "attn_mask" not in name}


def test_official_checkpoint_loads(tmp_path):
    """Of images of 224 pixels for ones of 256: all but the classifier and the masks, tables resized."""
    weights = {name: torch.randn(shape) for name, shape in official_shapes(96, 3, 6, (3, 6)).items()}
    head = {"cls_norm.norm.weight": torch.ones(768), "cls_head.weight": torch.ones(1000, 768)}
    path = tmp_path / "dat.pth"
    torch.save({"model": weights | head, "max_accuracy": 82.0}, path)
    model = DAT(pretrain_img_size=256, init_cfg=dict(type="Pretrained", checkpoint=f"dat://{path}"))
    with quiet():
        model.init_weights()
    result = DAT().load_state_dict(load_official(f"dat://{path}")["state_dict"], strict=False)
    assert not result.unexpected_keys
    assert all(name.startswith("norms.") for name in result.missing_keys)
    loaded = model.state_dict()
    assert {name for name in weights if name not in loaded} == {n for n in weights if "attn_mask" in n}
    for name in weights.keys() & loaded.keys():
        if "rpe_table" not in name and "position_index" not in name:
            assert torch.equal(loaded[name], weights[name]), name
    assert loaded["stages.3.attns.1.rpe_table"].shape == (24, 15, 15)


def test_training_state_of_the_official_code_is_read_without_yacs(tmp_path, monkeypatch):
    """Its save_checkpoint writes a frozen ``CfgNode`` beside the weights: a dict with attributes."""
    node = type("CfgNode", (dict,), dict(__module__="yacs.config"))
    config = node(MODEL=node(NAME="dat_tiny"), DROP=[0.1, (2, 3)])
    config.__dict__.update(__immutable__=True, __deprecated_keys__={"OLD"})
    weights = {"patch_proj.0.bias": torch.randn(8)}
    path = tmp_path / "dat.pth"
    with monkeypatch.context() as patch:
        modules = {"yacs": ModuleType("yacs"), "yacs.config": ModuleType("yacs.config")}
        modules["yacs.config"].CfgNode = node
        for name, module in modules.items():
            patch.setitem(sys.modules, name, module)
        torch.save({"model": weights, "config": config, "epoch": 299}, path)
    loaded = load_official(f"dat://{path}")
    assert loaded.keys() == {"state_dict"}
    assert torch.equal(loaded["state_dict"]["patch_proj.0.bias"], weights["patch_proj.0.bias"])


def test_file_that_is_not_official_is_refused(tmp_path):
    torch.save({"state_dict": {}}, tmp_path / "ours.pth")
    model = DAT(**TINY, init_cfg=dict(type="Pretrained", checkpoint=f"dat://{tmp_path}/ours.pth"))
    with pytest.raises(ValueError, match=r"ours\.pth: has no weights under 'model'.*without 'dat://'"):
        model.init_weights()


@pytest.mark.parametrize(
    ("kwargs", "millions", "flops"),
    [(dict(), 28.3, 4.6), (SMALL, 49.7, 9.0), (BASE, 87.9, 15.8)],
    ids=["T", "S", "B"],
)
def test_sizes_are_the_papers(kwargs, millions, flops):
    """Paper, table 2, at 224 x 224, with the classifier in the parameters: 29, 50 and 88 M.

    The names and shapes of DAT-T are the official code's, so 28.3 M is what the paper gives as 29.
    """
    counter = FlopCounterMode(display=False, custom_mapping=op_formulas())
    with torch.device("meta"), sdpa_kernel(SDPBackend.MATH), counter:
        model = DAT(**kwargs, out_indices=(3,)).eval()
        classifier = nn.Linear(8 * kwargs.get("embed_dims", 96), 1000)
        model(torch.zeros(1, 3, 224, 224))
    number = sum(p.numel() for part in (model, classifier) for p in part.parameters())
    assert round(number / 1e6, 1) == millions
    assert round(counter.get_total_flops() / 2e9, 1) == flops  # torch counts a multiply-add as two


@pytest.mark.parametrize("size", [(64, 64), (37, 101), (5, 9)], ids=str)
def test_every_image_size_is_welcome(size):
    model = DAT(**TINY, out_indices=(1, 3))
    outs = model(torch.randn(2, 3, *size))
    for out, i in zip(outs, (1, 3), strict=True):
        stride = 4 * 2**i
        assert out.shape == (2, 8 * 2**i, -(-size[0] // stride), -(-size[1] // stride))
        assert out.isfinite().all() and out.is_contiguous()
        torch.testing.assert_close(out.mean(1), torch.zeros_like(out[:, 0]))  # normalised


def test_image_does_not_depend_on_its_batch():
    model = DAT(**TINY).eval()
    images = torch.randn(3, 3, 50, 70)
    for together, alone in zip(model(images), model(images[1:2]), strict=True):
        torch.testing.assert_close(together[1:2], alone)


@pytest.mark.parametrize("frozen_stages", [-1, 0, 2, 4])
def test_frozen_stages_neither_learn_nor_drop(frozen_stages):
    model = DAT(**TINY, frozen_stages=frozen_stages, drop_path_rate=0.5).train()
    for name, parameter in model.named_parameters():
        part, number = name.split(".")[:2]
        first_learning = 0 if part == "patch_proj" else int(number) + 1
        assert parameter.requires_grad == (frozen_stages < first_learning), name
    for i, stage in enumerate(model.stages):
        assert stage.training == stage.drop_path[0].training == (i >= frozen_stages)


@pytest.mark.parametrize("max_bias_elements", [None, 8])
def test_checkpointing_changes_no_gradient(max_bias_elements):
    plain = DAT(**TINY).double()
    saving = DAT(**TINY, with_cp=True, max_bias_elements=max_bias_elements).double()
    saving.load_state_dict(plain.state_dict(), strict=True)
    image = torch.randn(1, 3, 40, 56, dtype=torch.double)
    for model in (plain, saving):
        sum(out.square().sum() for out in model(image)).backward()
    for ours, theirs in zip(saving.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)


def test_drop_path_rises_linearly():
    model = DAT(drop_path_rate=0.22)
    rates = [drop.drop_prob for stage in model.stages for drop in stage.drop_path]
    torch.testing.assert_close(rates, [0.02 * i for i in range(12)])


def test_mixed_precision_keeps_points_exact():
    model = DAT(**TINY).eval()
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        full = model(image)
        with torch.autocast("cpu", torch.bfloat16):
            half = model(image)
    for ours, theirs in zip(half, full, strict=True):
        torch.testing.assert_close(ours.float(), theirs, atol=0.1, rtol=0.1)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (dict(num_heads=(3, 6)), "num_heads has 2 values for 4 stages"),
        (dict(num_groups=(1, 1, 5, 6)), "stage 2 has 384 channels, num_heads=12 and num_groups=5"),
        (dict(out_indices=(3, 4)), "the stages are 0 to 3"),
    ],
)
def test_contradictions_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        DAT(**kwargs)


def test_deformable_blocks_are_named_in_order():
    model = DAT(**dict(TINY, stages=("LS", "D", "LDSD", "D"), patch_size=2))
    names, attentions, strides = zip(*model.deformable_blocks(), strict=True)
    assert names == ("stage 1, block 0", "stage 2, block 1", "stage 2, block 3", "stage 3, block 0")
    assert attentions[2] is model.stages[2].attns[3]
    assert strides == (4, 8, 8, 16)
