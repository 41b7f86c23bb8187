"""A small model in every variant, and the converter as a function."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.registry import DefaultScope
from torch import Tensor, nn

from projects.deformable_detr.registry import MODELS
from projects.reliable_runner.files.checkpoint_file import read_tensors
from tools.model_converters.convert import main

TWO_STAGE = dict(with_box_refine=True, as_two_stage=True)
DENOISING = dict(type="ContrastiveDenoising")
VARIANTS = {
    "base": dict(),
    "refine": dict(with_box_refine=True),
    "two-stage": TWO_STAGE,
    "dino": dict(TWO_STAGE, queries=dict(type="MixedQueries"), denoising=DENOISING),
}
DECODER = dict(embed_references=True, look_forward_twice=True, post_norm_cfg=dict(type="LN"))


@pytest.fixture
def randomize() -> Callable[[nn.Module], nn.Module]:
    """Gives a model random parameters and statistics everywhere: zeros and ones would hide mistakes."""

    def run(model: nn.Module) -> nn.Module:
        generator = torch.Generator().manual_seed(0)
        seen = set()
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            if tensor.is_floating_point() and id(tensor) not in seen:
                seen.add(id(tensor))
                noise = torch.randn(tensor.shape, generator=generator)
                tensor.data += 0.1 * (noise.abs() if name.endswith("running_var") else noise)
        return model.eval()

    return run


@pytest.fixture
def our_model(randomize) -> Callable[..., nn.Module]:
    """Builds our model with random weights; a ResNet-18 or ResNet-50 with few channels."""

    def build(variant: str = "base", num_classes: int = 80, bias: bool = True, depth: int = 18):
        attn = dict(embed_dims=64, num_heads=4, dropout=0.0)
        deformable = dict(attn, num_levels=3, num_points=2)
        ffn = dict(embed_dims=64, feedforward_channels=48, ffn_drop=0.0)
        cfg = dict(
            type="DeformableDETR",
            num_queries=9,
            num_feature_levels=3,
            backbone=dict(type="ResNet", depth=depth, base_channels=4, out_indices=(2, 3)),
            neck=dict(
                type="ChannelMapper",
                in_channels=[16, 32] if depth == 18 else [64, 128],
                kernel_size=1,
                out_channels=64,
                act_cfg=None,
                norm_cfg=dict(type="GN", num_groups=32),
                bias=bias or "auto",
                num_outs=3,
            ),
            positional_encoding=dict(num_feats=32, normalize=True, offset=-0.5),
            encoder=dict(num_layers=2, layer_cfg=dict(self_attn_cfg=deformable, ffn_cfg=ffn)),
            decoder=dict(
                num_layers=3,
                layer_cfg=dict(self_attn_cfg=attn, cross_attn_cfg=deformable, ffn_cfg=ffn),
                **(DECODER if variant == "dino" else {}),
            ),
            bbox_head=dict(type="DeformableDETRHead", num_classes=num_classes, embed_dims=64),
            **VARIANTS[variant],
        )
        torch.manual_seed(0)
        with DefaultScope.overwrite_default_scope("projects.deformable_detr"):
            model = MODELS.build(cfg)
        nn.init.normal_(model.level_embed)
        return randomize(model)

    return build


@pytest.fixture
def batch() -> tuple[Tensor, list[tuple[int, int]]]:
    """Three images of different sizes in a padded batch, and their sizes (h, w)."""
    sizes = [(64, 96), (50, 70), (33, 96)]
    images = torch.zeros(3, 3, 64, 96)
    for image, (h, w) in zip(images, sizes, strict=True):
        image[:, :h, :w] = torch.randn(3, h, w, generator=torch.Generator().manual_seed(1))
    return images, sizes


@pytest.fixture
def predict(batch) -> Callable[[nn.Module], tuple[Tensor, Tensor]]:
    """Class logits and boxes of our model on the batch, after every decoder layer."""
    images, sizes = batch

    def run(model: nn.Module) -> tuple[Tensor, Tensor]:
        samples = [DetDataSample(metainfo=dict(img_shape=size)) for size in sizes]
        with torch.no_grad():
            return model(images, samples, mode="tensor")

    return run


@pytest.fixture
def convert(tmp_path) -> Callable[..., tuple[Path, dict[str, Tensor]]]:
    """Runs the converter on a file or on tensors and reads back what it has written."""

    def run(source: Path | dict, target: str, *options: str) -> tuple[Path, dict[str, Tensor]]:
        if isinstance(source, dict):
            torch.save(source, tmp_path / "source.pth")
            source = tmp_path / "source.pth"
        main([str(source), str(tmp_path / target), *options])
        return tmp_path / target, read_tensors(tmp_path / target)[0]

    return run


@pytest.fixture
def assert_same() -> Callable[[dict, dict], None]:
    """Two state dicts have the same names and the same bits."""

    def check(ours: dict, theirs: dict) -> None:
        assert ours.keys() == theirs.keys()
        for key, tensor in theirs.items():
            assert torch.equal(ours[key], tensor) and ours[key].dtype == tensor.dtype, key

    return check
