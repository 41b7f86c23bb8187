"""The official code's and detrex's checkpoints, through files, both ways; and what is refused."""

import argparse
import os
import pickle
import runpy
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from projects.deformable_detr.registry import MODELS, SCOPE
from projects.reliable_runner.files.checkpoint_file import read_checkpoint
from tools.model_converters.classes import COCO_IDS
from tools.model_converters.convert import main

REPO = Path(__file__).resolve().parents[3]
VARIANTS = ("base", "refine", "two-stage")


def official_weights(variant: str = "base", rows: int = 91, levels: int = 3) -> dict:
    """Random weights by the names and shapes of the official code, for the model of ``our_model``.

    Written down from models/{deformable_detr,deformable_transformer,backbone}.py of
    fundamentalvision/Deformable-DETR.
    """
    generator = torch.Generator().manual_seed(2)
    weights = {}

    def add(module: str, *shape: int, bias: bool = True) -> None:
        weights[f"{module}.weight"] = 0.1 * torch.randn(shape, generator=generator)
        if bias:
            weights[f"{module}.bias"] = 0.1 * torch.randn(shape[:1], generator=generator)

    def add_frozen_norm(module: str, channels: int) -> None:
        add(module, channels)
        weights[f"{module}.running_mean"] = torch.randn(channels, generator=generator)
        weights[f"{module}.running_var"] = 1 + torch.rand(channels, generator=generator)

    def add_attention(module: str) -> None:
        points = 4 * levels * 2
        add(f"{module}.sampling_offsets", 2 * points, 64)
        add(f"{module}.attention_weights", points, 64)
        add(f"{module}.value_proj", 64, 64)
        add(f"{module}.output_proj", 64, 64)

    weights["transformer.level_embed"] = torch.randn(levels, 64, generator=generator)
    for i in range(2):
        layer = f"transformer.encoder.layers.{i}"
        add_attention(f"{layer}.self_attn")
        for module, *shape in (
            ("linear1", 48, 64),
            ("linear2", 64, 48),
            ("norm1", 64),
            ("norm2", 64),
        ):
            add(f"{layer}.{module}", *shape)
    for i in range(3):
        layer = f"transformer.decoder.layers.{i}"
        add_attention(f"{layer}.cross_attn")
        packed = 0.1 * torch.randn(192, 65, generator=generator)
        weights[f"{layer}.self_attn.in_proj_weight"] = packed[:, :64].clone()
        weights[f"{layer}.self_attn.in_proj_bias"] = packed[:, 64].clone()
        add(f"{layer}.self_attn.out_proj", 64, 64)
        for module, *shape in (("linear1", 48, 64), ("linear2", 64, 48)):
            add(f"{layer}.{module}", *shape)
        for norm in ("norm1", "norm2", "norm3"):
            add(f"{layer}.{norm}", 64)
    if variant == "two-stage":
        for module, *shape in (("enc_output", 64, 64), ("enc_output_norm", 64)):
            add(f"transformer.{module}", *shape)
        for module, *shape in (("pos_trans", 128, 128), ("pos_trans_norm", 128)):
            add(f"transformer.{module}", *shape)
    else:
        add("transformer.reference_points", 2, 64)
        add("query_embed", 9, 128, bias=False)

    def add_branches(i: int) -> None:
        add(f"class_embed.{i}", rows, 64)
        for j, size in enumerate((64, 64, 4)):
            add(f"bbox_embed.{i}.layers.{j}", size, 64)

    add_branches(0)
    for i in range(1, 3 + (variant == "two-stage")):
        if variant == "base":
            for key in [key for key in weights if key.startswith(("class_embed.0", "bbox_embed.0"))]:
                weights[key.replace(".0.", f".{i}.", 1)] = weights[key]
        else:
            add_branches(i)
    copied = {"base": (), "refine": ("bbox_embed",), "two-stage": ("bbox_embed", "class_embed")}
    for key in [key for key in weights if key.startswith(copied[variant])]:
        weights[f"transformer.decoder.{key}"] = weights[key]

    channels = [16, 32][-min(levels, 2) :]
    for i in range(levels):
        in_channels, kernel = (channels[i], 1) if i < len(channels) else (32, 3)
        add(f"input_proj.{i}.0", 64, in_channels, kernel, kernel)
        add(f"input_proj.{i}.1", 64)

    body = "backbone.0.body"
    add(f"{body}.conv1", 4, 3, 7, 7, bias=False)
    add_frozen_norm(f"{body}.bn1", 4)
    before = 4
    for stage, width in enumerate((4, 8, 16, 32), start=1):
        for block in range(2):
            name = f"{body}.layer{stage}.{block}"
            for j, inputs in ((1, before), (2, width)):
                add(f"{name}.conv{j}", width, inputs, 3, 3, bias=False)
                add_frozen_norm(f"{name}.bn{j}", width)
            if before != width:
                add(f"{name}.downsample.0", width, before, 1, 1, bias=False)
                add_frozen_norm(f"{name}.downsample.1", width)
            before = width
    return weights


def official_file(weights: dict) -> dict:
    """What the official training saves around the weights."""
    return dict(
        model=weights,
        optimizer={"state": {}, "param_groups": [{"lr": 2e-4}]},
        lr_scheduler={"last_epoch": 49},
        epoch=49,
        args=argparse.Namespace(lr=2e-4, coco_path="data", with_box_refine=True),
    )


@pytest.mark.parametrize("variant", VARIANTS)
def test_official_round_trip_is_exact(variant, convert, assert_same, our_model, capsys):
    weights = official_weights(variant)
    path, ours = convert(official_file(weights), "ours.pth")
    assert f"official (fundamentalvision/Deformable-DETR), {variant}, 91" in capsys.readouterr().out
    our_model(variant).load_state_dict(ours, strict=True)
    _, back = convert(path, "official.pth", "--to", "official")
    assert_same(back, weights)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("family", ["official", "huggingface", "huggingface-resnet", "detrex"])
def test_our_round_trip_is_exact(variant, family, convert, assert_same, our_model):
    ours = our_model(variant, bias=family == "official").state_dict()
    path, _ = convert({"state_dict": ours, "meta": {"epoch": 3}}, "theirs.pth", "--to", family)
    _, back = convert(path, "back.pth")
    assert_same(back, ours)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_long_way_round_is_exact(variant, convert, assert_same):
    weights = official_weights(variant)
    path, _ = convert(official_file(weights), "model.safetensors", "--to", "huggingface")
    path, _ = convert(path, "ours.pth")
    path, _ = convert(path, "model.bin", "--to", "huggingface-resnet")
    _, back = convert(path, "official.pth", "--to", "official")
    assert_same(back, weights)


def test_what_stands_where(convert):
    """Pairs that a table of similar names gets wrong most easily."""
    weights = official_weights("two-stage")
    _, ours = convert({"model": weights}, "ours.pth")
    decoder, layer = "transformer.decoder.layers.1", "decoder.layers.1"
    for theirs, mine in (
        (f"{decoder}.norm1.weight", f"{layer}.norms.1.weight"),  # after the cross-attention
        (f"{decoder}.norm2.weight", f"{layer}.norms.0.weight"),  # after the self-attention
        (f"{decoder}.norm3.weight", f"{layer}.norms.2.weight"),
        (f"{decoder}.self_attn.in_proj_bias", f"{layer}.self_attn.attn.in_proj_bias"),
        ("transformer.encoder.layers.0.norm2.bias", "encoder.layers.0.norms.1.bias"),
        ("transformer.encoder.layers.0.linear2.bias", "encoder.layers.0.ffn.layers.1.bias"),
        ("bbox_embed.2.layers.1.weight", "bbox_head.reg_branches.2.2.weight"),
        ("bbox_embed.3.layers.2.bias", "bbox_head.reg_branches.3.4.bias"),
        ("input_proj.1.0.weight", "neck.convs.1.conv.weight"),
        ("input_proj.2.0.weight", "neck.extra_convs.0.conv.weight"),
        ("input_proj.2.1.bias", "neck.extra_convs.0.gn.bias"),
        ("backbone.0.body.layer4.1.bn2.running_var", "backbone.layer4.1.bn2.running_var"),
        ("transformer.enc_output.weight", "memory_trans_fc.weight"),
        ("transformer.pos_trans_norm.bias", "pos_trans_norm.bias"),
    ):
        assert torch.equal(weights[theirs], ours[mine]), theirs


def test_timm_backbone_names(convert, our_model):
    """The names in the files of the SenseTime models on the hub: torchvision's under a prefix."""
    source = {"state_dict": our_model(depth=50).state_dict()}
    _, theirs = convert(source, "model.safetensors", "--to", "huggingface")
    prefix = "model.backbone.conv_encoder.model."
    names = {key.removeprefix(prefix) for key in theirs if key.startswith(prefix)}
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    block = {f"conv{i}.weight" for i in (1, 2, 3)} | {f"bn{i}.{n}" for i in (1, 2, 3) for n in norm}
    shortcut = {"downsample.0.weight"} | {f"downsample.1.{n}" for n in norm}
    expected = {"conv1.weight"} | {f"bn1.{n}" for n in norm}
    for stage, blocks in ((1, 3), (2, 4), (3, 6), (4, 3)):
        expected |= {f"layer{stage}.{b}.{name}" for b in range(blocks) for name in block}
        expected |= {f"layer{stage}.0.{name}" for name in shortcut}
    assert names == expected


def test_detrex_names(convert, our_model):
    source = {"state_dict": our_model("two-stage", depth=50).state_dict()}
    _, theirs = convert(source, "detrex.pth", "--to", "detrex")
    assert {
        "backbone.stem.conv1.norm.running_mean",
        "backbone.res2.0.shortcut.norm.weight",
        "backbone.res5.2.conv3.weight",
        "neck.convs.0.conv.bias",
        "neck.extra_convs.0.norm.weight",
        "transformer.level_embeds",
        "transformer.encoder.layers.0.attentions.0.sampling_offsets.weight",
        "transformer.decoder.layers.0.attentions.0.attn.in_proj_weight",
        "transformer.decoder.layers.0.attentions.1.value_proj.bias",
        "transformer.decoder.layers.2.ffns.0.layers.0.0.weight",
        "transformer.enc_output_norm.weight",
        "transformer.decoder.class_embed.3.weight",
        "bbox_embed.0.layers.2.bias",
    } <= theirs.keys()
    assert len(theirs["class_embed.0.bias"]) == 80


def test_single_scale(convert, assert_same):
    weights = official_weights(levels=1)
    path, ours = convert({"model": weights}, "ours.pth")
    assert "neck.convs.0.conv.weight" in ours
    assert not any(key.startswith(("neck.extra", "neck.convs.1")) for key in ours)
    assert_same(convert(path, "official.pth", "--to", "official")[1], weights)


# --- classes ---


def test_rows_of_coco(convert):
    weights = official_weights("two-stage")
    _, ours = convert({"model": weights}, "ours.pth")
    assert torch.equal(ours["bbox_head.cls_branches.0.bias"], weights["class_embed.0.bias"][[*COCO_IDS]])
    # The encoder ranks its proposals by row 0, which no class of COCO has.
    assert torch.equal(ours["bbox_head.cls_branches.3.bias"], weights["class_embed.3.bias"][:80])


def test_classes_that_no_file_knows_never_score(convert, our_model):
    path, theirs = convert({"state_dict": our_model().state_dict()}, "a.pth", "--to", "official")
    unused = [row for row in range(91) if row not in COCO_IDS]
    assert theirs["class_embed.1.bias"][unused].half().sigmoid().max() == 0
    assert not theirs["class_embed.1.weight"][unused].any()


def test_own_list_of_classes(convert, assert_same):
    weights = official_weights("refine", rows=12)
    path, ours = convert({"model": weights}, "ours.pth", "--classes", "7,2,11")
    bias = weights["class_embed.2.bias"]
    assert torch.equal(ours["bbox_head.cls_branches.2.bias"], bias[[7, 2, 11]])
    _, back = convert(path, "official.pth", "--to", "official", "--classes", "7,2,11")
    assert_same(back, weights)


def test_another_list_on_the_way_back(convert):
    """Rows that were put by belong to the list that they were put by with."""
    weights = official_weights("refine", rows=12)
    path, ours = convert({"model": weights}, "ours.pth", "--classes", "7,2,11")
    _, back = convert(path, "official.pth", "--to", "official", "--classes", "0,1,3")
    assert torch.equal(back["class_embed.0.bias"][[0, 1, 3]], weights["class_embed.0.bias"][[7, 2, 11]])
    assert back["class_embed.0.bias"].tolist()[2] == -50


def test_pixel_statistics_of_mmdets_published_files(convert, our_model, assert_same):
    ours = our_model().state_dict()
    statistics = {f"data_preprocessor.{name}": torch.ones(3, 1, 1) for name in ("mean", "std")}
    path, _ = convert({"state_dict": {**ours, **statistics}}, "a.pth", "--to", "official")
    assert_same(convert(path, "ours.pth")[1], ours)


@pytest.mark.parametrize(("rows", "options"), [(91, ["--classes", "all"]), (20, [])])
def test_classes_as_they_are(rows, options, convert, assert_same):
    weights = official_weights(rows=rows)
    path, ours = convert({"model": weights}, "ours.pth", *options)
    assert torch.equal(ours["bbox_head.cls_branches.0.bias"], weights["class_embed.0.bias"])
    assert_same(convert(path, "official.pth", "--to", "official", *options)[1], weights)


# --- files ---


@pytest.mark.parametrize("legacy", [False, True])
def test_official_files_of_any_torch(legacy, tmp_path, convert, capsys):
    """Published ones are of 2020, with the optimizer and an argparse.Namespace."""
    contents = official_file({f"module.{k}": v for k, v in official_weights().items()})
    path = tmp_path / "published.pth"
    torch.save(contents, path, _use_new_zipfile_serialization=not legacy)
    convert(path, "ours.pth")
    printed = capsys.readouterr().out
    assert "left out: optimizer, lr_scheduler, epoch, args" in printed
    assert "model.neck.bias=True" in printed


def test_test_py_reads_the_result(tmp_path, small_run, convert, randomize):
    """The detections of a model before and after a visit to the official code are the same."""
    config = REPO / "tests" / "tiny_ddetr.py"
    model = MODELS.build(dict(Config.fromfile(config).model, _scope_=SCOPE))
    torch.nn.init.normal_(model.level_embed)
    torch.save({"state_dict": randomize(model).state_dict()}, tmp_path / "before.pth")
    path, _ = convert(tmp_path / "before.pth", "official.pth", "--to", "official")
    path, _ = convert(path, "after.pth")
    test = runpy.run_path(str(REPO / "tools" / "test.py"))["main"]
    results = []
    for name in ("before", "after"):
        out = tmp_path / f"{name}.pkl"
        args = [config, tmp_path / f"{name}.pth", "--out", out, "--work-dir", tmp_path / name]
        test(list(map(str, args)))
        results.append([result["pred_instances"] for result in pickle.loads(out.read_bytes())])
    for before, after in zip(*results, strict=True):
        assert all(torch.equal(before[key], after[key]) for key in ("bboxes", "scores", "labels"))
    assert read_checkpoint(tmp_path / "after.pth")["meta"]["converted_from"] == "official"


@pytest.fixture
def refuse(one_line_error, tmp_path, capsys):
    """The message with which the converter refuses a file's contents or a path."""

    def run(source, *options: str, target: str = "out.pth") -> str:
        if isinstance(source, (dict, list)):
            torch.save(source, tmp_path / "source.pth")
            source = tmp_path / "source.pth"
        error = one_line_error(main, source, tmp_path / target, *options)
        assert not (tmp_path / target).exists()
        return error

    return run


def test_wrong_family(refuse):
    error = refuse({"model": official_weights()}, "--from", "detrex")
    assert "source.pth: read as detrex (IDEA-Research/detrex)" in error
    assert "have names that it does not know: transformer.level_embed, " in error
    assert "are missing: " in error and "its names are those of official: say --from official" in error


def test_half_a_checkpoint(refuse):
    half = dict(list(official_weights("refine").items())[:60])
    error = refuse({"model": half})
    assert "read as official" in error and "weights are missing: backbone.0.body.conv1.weight" in error
    assert "convert a whole Deformable DETR" in error


def _without(weights: dict, *names: str) -> dict:
    return {key: value for key, value in weights.items() if key not in names}


@pytest.mark.parametrize(
    ("variant", "missing"),
    [
        ("base", "transformer.level_embed"),
        ("base", "query_embed.weight"),
        ("base", "class_embed.2.bias"),
        ("base", "backbone.0.body.layer2.0.downsample.1.running_mean"),
        ("base", "input_proj.2.1.weight"),
        ("refine", "transformer.decoder.layers.2.cross_attn.sampling_offsets.bias"),
        ("two-stage", "transformer.pos_trans.weight"),
        ("two-stage", "class_embed.3.weight"),
    ],
)
def test_one_missing_weight(variant, missing, refuse):
    names = (missing, f"transformer.decoder.{missing}")
    error = refuse({"model": _without(official_weights(variant), *names)})
    assert f"1 weights are missing: {missing};" in error


@pytest.mark.parametrize("name", ["transformer.encoder.layers.0.gate.weight", "mask_head.bias"])
def test_one_unknown_weight(name, refuse):
    error = refuse({"model": official_weights() | {name: torch.zeros(1)}})
    assert f"1 weights have names that it does not know: {name};" in error


def test_half_an_attention_of_transformers(refuse, convert):
    path, theirs = convert({"model": official_weights()}, "model.bin", "--to", "huggingface")
    missing = "model.decoder.layers.0.self_attn.k_proj.bias"
    assert f"1 weights are missing: {missing};" in refuse(_without(theirs, missing))


def test_branches_that_differ_under_their_two_names(refuse):
    weights = official_weights("refine")
    weights["bbox_embed.1.layers.0.bias"] = weights["bbox_embed.1.layers.0.bias"] + 1
    error = refuse({"model": weights})
    assert "1 branches differ under their two names" in error and "bbox_embed.1.layers.0.bias" in error


def test_a_backbone_without_counterpart(refuse, our_model):
    weights = our_model().state_dict()
    weights["backbone.layer3.0.conv2.conv_offset.weight"] = torch.zeros(1)
    error = refuse({"state_dict": weights}, "--to", "official")
    assert "read as mmdet" in error and "backbone.layer3.0.conv2.conv_offset.weight" in error


def test_two_stage_without_refinement(refuse, our_model, convert):
    weights = our_model("two-stage").state_dict()
    for key in weights:
        if "_branches." in key:
            weights[key] = weights[key.replace(key.split(".")[2], "0", 1)]
    assert "with_box_refine=False" in refuse({"state_dict": weights}, "--to", "official")
    convert({"state_dict": weights}, "forced.pth", "--to", "official", "--variant", "two-stage")


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ({"weight": torch.zeros(3), "bias": torch.zeros(1)}, "it is of no known family (mmdet, "),
        ({"ema_state_dict": {"module.a": torch.zeros(1)}, "epoch": 3}, "but their running average"),
        ({"optimizer": {"lr": 0.1}, "epoch": 3}, "its keys are 'optimizer', 'epoch'"),
        ({"model": {}}, "it holds no weights under"),
        ([torch.zeros(1)], "its keys are none"),
    ],
)
def test_no_weights_of_ours(contents, message, refuse):
    error = refuse(contents)
    assert "source.pth: " in error and message in error


class Calls:
    """Pickles as a call of ``function``."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


def test_nothing_in_a_file_is_run(refuse, tmp_path):
    trace = tmp_path / "trace"
    error = refuse({"model": official_weights(), "args": Calls(os.system, f"touch {trace}")})
    assert "the file asks for posix.system" in error and not trace.exists()


def test_a_namespace_brings_nothing_in(refuse, tmp_path):
    trace = tmp_path / "trace"
    inside = argparse.Namespace(path=Calls(os.system, f"touch {trace}"))
    assert "posix.system" in refuse({"model": official_weights(), "args": inside})
    assert not trace.exists()


@pytest.mark.parametrize("contents", [b"", b"\x08\0\0\0\0\0\0\0{}", b"<html>", bytes(range(99, 198))])
def test_torn_and_foreign_safetensors(contents, refuse, tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(contents)
    assert f"{path}: this is no whole safetensors file" in refuse(path)
    path.unlink()
    assert "there is no such file" in refuse(path)


@pytest.mark.parametrize(
    ("options", "target", "message"),
    [
        (["--to", "official"], "out.pth", "it is of official already"),
        (["--classes", "1,1"], "out.pth", "--classes 1,1: give coco, all, or"),
        (["--classes", "dog"], "out.pth", "--classes dog: give coco, all, or"),
        (["--classes", "1,91"], "out.pth", "names row 91, but the class branches have 91 rows"),
        ([], "out.safetensors", "a file of mmdet must end with .pth or .pt"),
        ([], "no/out.pth", "there is no folder"),
    ],
)
def test_wrong_arguments(options, target, message, refuse):
    assert message in refuse({"model": official_weights()}, *options, target=target)


def test_a_list_of_other_length(refuse, our_model):
    source = {"state_dict": our_model().state_dict()}
    error = refuse(source, "--to", "official", "--classes", "1,2")
    assert "--classes names 2 rows, but the model has 80 classes" in error
