"""The official code's and detrex's checkpoints, through files, both ways; and what is refused."""

import argparse
import itertools
import re

import pytest
import torch

from projects.checkpoint_conversion.classes import COCO_IDS
from projects.checkpoint_conversion.conversion import convert as convert_weights
from projects.reliable_runner.files.checkpoint_file import read_checkpoint
from tools.model_converters.convert import main

VARIANTS = ("base", "refine", "two-stage")


def official_weights(variant: str = "base", rows: int = 91, levels: int = 3) -> dict:
    """Random weights by the names and shapes of the official code, for the model of ``our_model``.

    Written down from models/{deformable_detr,deformable_transformer,backbone}.py of
    fundamentalvision/Deformable-DETR, and from models/dino/{dino,deformable_transformer}.py of
    IDEA-Research/DINO.
    """
    samples = 4 * levels * 2
    attention = {
        "sampling_offsets": (2 * samples, 64),
        "attention_weights": (samples, 64),
        "value_proj": (64, 64),
        "output_proj": (64, 64),
    }
    ffn = {"linear1": (48, 64), "linear2": (64, 48), "norm1": (64,), "norm2": (64,)}
    shapes = {}  # of modules with weight and bias
    for i in range(2):
        layer = f"transformer.encoder.layers.{i}"
        shapes |= {f"{layer}.self_attn.{name}": shape for name, shape in attention.items()}
        shapes |= {f"{layer}.{name}": shape for name, shape in ffn.items()}
    for i in range(3):
        layer = f"transformer.decoder.layers.{i}"
        shapes |= {f"{layer}.cross_attn.{name}": shape for name, shape in attention.items()}
        shapes |= {f"{layer}.{name}": shape for name, shape in ffn.items()}
        shapes |= {f"{layer}.self_attn.out_proj": (64, 64), f"{layer}.norm3": (64,)}
    if variant == "two-stage":
        shapes |= {"transformer.enc_output": (64, 64), "transformer.enc_output_norm": (64,)}
        shapes |= {"transformer.pos_trans": (128, 128), "transformer.pos_trans_norm": (128,)}
    elif variant == "dino":
        decoder = "transformer.decoder"
        shapes |= {"transformer.enc_output": (64, 64), "transformer.enc_output_norm": (64,)}
        shapes |= {f"{decoder}.ref_point_head.layers.0": (64, 128), f"{decoder}.norm": (64,)}
        shapes[f"{decoder}.ref_point_head.layers.1"] = 64, 64
    else:
        shapes["transformer.reference_points"] = 2, 64
    branches = [(f"class_embed.{i}", f"bbox_embed.{i}") for i in range(3 + (variant == "two-stage"))]
    if variant == "dino":
        branches.append(("transformer.enc_out_class_embed", "transformer.enc_out_bbox_embed"))
    for classes, boxes in branches:
        shapes[classes] = rows, 64
        shapes |= {f"{boxes}.layers.{j}": (n, 64) for j, n in enumerate((64, 64, 4))}
    channels = [16, 32][-min(levels, 2) :]
    for i in range(levels):
        shapes[f"input_proj.{i}.0"] = (64, channels[i], 1, 1) if i < len(channels) else (64, 32, 3, 3)
        shapes[f"input_proj.{i}.1"] = (64,)

    convolutions, before = {"conv1": (4, 3, 7, 7)}, 4  # without bias, each before a frozen norm
    for stage, width in enumerate((4, 8, 16, 32), start=1):
        for block in range(2):
            name = f"layer{stage}.{block}"
            convolutions |= {f"{name}.conv1": (width, before, 3, 3), f"{name}.conv2": (width, width, 3, 3)}
            if before != width:
                convolutions[f"{name}.downsample.0"] = width, before, 1, 1
            before = width

    generator = torch.Generator().manual_seed(2)
    weights = {"transformer.level_embed": torch.randn(levels, 64, generator=generator)}

    def add(module: str, *leaves: str, shape: tuple[int, ...]) -> None:
        for leaf in leaves:
            size = shape if leaf.endswith("weight") else shape[:1]
            weights[module + leaf] = 0.1 * torch.rand(size, generator=generator) + 0.01

    for module, shape in shapes.items():
        add(module, ".weight", ".bias", shape=shape)
    for i in range(3):
        attn = f"transformer.decoder.layers.{i}.self_attn"
        add(attn, ".in_proj_weight", ".in_proj_bias", shape=(192, 64))
    if variant == "dino":
        add("transformer.tgt_embed", ".weight", shape=(9, 64))
        add("label_enc", ".weight", shape=(rows + 1, 64))
    elif variant != "two-stage":
        add("query_embed", ".weight", shape=(9, 128))
    for conv, shape in convolutions.items():
        norm = conv.replace("conv", "bn").replace("downsample.0", "downsample.1")
        add(f"backbone.0.body.{conv}", ".weight", shape=shape)
        leaves = ".weight", ".bias", ".running_mean", ".running_var"
        add(f"backbone.0.body.{norm}", *leaves, shape=shape[:1])

    branches = [key for key in weights if key.startswith(("class_embed", "bbox_embed"))]
    for key in branches if variant in ("base", "dino") else ():  # all layers share one
        weights[key] = weights[re.sub(r"\.\d", ".0", key, count=1)]
    both = ("bbox_embed", "class_embed")
    copied = {"base": (), "refine": ("bbox_embed",), "two-stage": both, "dino": both}
    for key in branches:
        if key.startswith(copied[variant]):
            weights[f"transformer.decoder.{key}"] = weights[key]
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
def test_the_long_way_round_is_exact(variant, convert, assert_same, our_model, capsys):
    weights = official_weights(variant)
    path, _ = convert(official_file(weights), "model.safetensors", "--to", "huggingface")
    assert f"IDEA-Research/DINO), {variant}" in capsys.readouterr().out
    path, ours = convert(path, "ours.pth")
    our_model(variant).load_state_dict(ours, strict=True)
    path, _ = convert(path, "model.bin", "--to", "huggingface-resnet")
    _, back = convert(path, "official.pth", "--to", "official")
    assert_same(back, weights)


@pytest.mark.parametrize(
    ("variant", "family"),
    [
        *itertools.product(VARIANTS, ["official", "huggingface", "huggingface-resnet", "detrex"]),
        *(("dino", family) for family in ("official", "detrex")),
    ],
)
def test_our_round_trip_is_exact(variant, family, convert, assert_same, our_model):
    ours = our_model(variant, bias=family == "official").state_dict()
    path, _ = convert({"state_dict": ours, "meta": {"epoch": 3}}, "theirs.pth", "--to", family)
    path, back = convert(path, "back.pth")
    assert_same(back, ours)
    assert read_checkpoint(path)["meta"]["converted_from"] == family


def test_weights_in_memory(assert_same):
    """Without files; what is given stays as it was."""
    weights = official_weights("two-stage")
    before = {key: tensor.clone() for key, tensor in weights.items()}
    ours, meta = convert_weights(weights)
    back, _ = convert_weights(ours, "official", meta=meta)
    assert_same(back, before)
    assert_same(weights, before)


@pytest.mark.parametrize("options", [[], ["--classes", "all"]])
def test_the_official_dino(options, convert, assert_same, our_model, capsys):
    weights = official_weights("dino")
    path, ours = convert({"model": weights}, "ours.pth", *options)
    assert "official (fundamentalvision/Deformable-DETR or IDEA-Research/DINO), dino" in (
        printed := capsys.readouterr().out
    )
    assert "model.bbox_head.inverse_sigmoid_eps=0.001" in printed
    rows = list(range(91)) if options else [*COCO_IDS]
    our_model("dino", num_classes=len(rows)).load_state_dict(ours, strict=True)
    for theirs, mine in (
        ("label_enc.weight", "dn_query_generator.label_embedding.weight"),
        ("transformer.enc_out_class_embed.bias", "bbox_head.cls_branches.3.bias"),
        ("class_embed.2.weight", "bbox_head.cls_branches.2.weight"),
    ):
        assert torch.equal(weights[theirs][rows], ours[mine]), theirs
    for theirs, mine in (
        ("transformer.enc_out_bbox_embed.layers.2.bias", "bbox_head.reg_branches.3.4.bias"),
        ("transformer.tgt_embed.weight", "query_embedding.weight"),
        ("transformer.decoder.ref_point_head.layers.1.weight", "decoder.ref_point_head.layers.1.weight"),
        ("transformer.decoder.norm.bias", "decoder.norm.bias"),
    ):
        assert torch.equal(weights[theirs], ours[mine]), theirs
    assert_same(convert(path, "back.pth", "--to", "official", *options)[1], weights)


def test_dino_is_not_in_transformers(refuse, our_model):
    error = refuse({"state_dict": our_model("dino").state_dict()}, "--to", "huggingface")
    assert "it is a DINO, which transformers has not" in error


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


EPS = {"model.bbox_head.inverse_sigmoid_eps": 1e-3}
POSITIONS = {"model.positional_encoding.offset": -0.5, "model.positional_encoding.temperature": 10000}


@pytest.mark.parametrize(
    ("variant", "family", "settings", "names"),
    [
        (
            *(
                "two-stage",
                "huggingface",
                {},
            ),  # of the SenseTime models on the hub: torchvision's under a prefix
            {
                "model.backbone.conv_encoder.model.bn1.running_mean",
                "model.backbone.conv_encoder.model.layer2.3.conv3.weight",
                "model.backbone.conv_encoder.model.layer4.0.downsample.0.weight",
                "model.backbone.conv_encoder.model.layer4.0.downsample.1.bias",
            },
        ),
        (
            *("dino", "detrex", EPS | POSITIONS),
            {
                "label_enc.weight",
                "transformer.tgt_embed.weight",
                "transformer.decoder.norm.weight",
                "transformer.decoder.ref_point_head.layers.0.bias",
                "transformer.decoder.bbox_embed.3.layers.2.weight",
                "class_embed.3.weight",
            },
        ),
        (
            *("two-stage", "detrex", EPS | {"model.test_cfg.max_per_img": 300}),
            {
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
            },
        ),
    ],
)
def test_names_and_settings_of_other_code_bases(variant, family, settings, names, convert, our_model):
    source = {"state_dict": our_model(variant, depth=50).state_dict()}
    _, theirs = convert(source, "theirs.pth", "--to", family)
    assert names <= theirs.keys()
    assert len(theirs["class_embed.0.bias"]) == (80 if family == "detrex" else 91)
    assert convert_weights(theirs)[1]["cfg_options"] == {"model.neck.bias": True} | settings


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
    # Rows that were put by belong to the list that they were put by with.
    _, other = convert(path, "official.pth", "--to", "official", "--classes", "0,1,3")
    assert torch.equal(other["class_embed.2.bias"][[0, 1, 3]], bias[[7, 2, 11]])
    assert other["class_embed.2.bias"][2] == -50


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


@pytest.mark.parametrize(
    ("variant", "missing"),
    [
        ("base", "query_embed.weight"),
        ("base", "backbone.0.body.layer2.0.downsample.1.running_mean"),
        ("two-stage", "class_embed.3.weight"),
    ],
)
def test_one_missing_weight(variant, missing, refuse):
    weights = official_weights(variant)
    for name in missing, f"transformer.decoder.{missing}":
        weights.pop(name, None)
    error = refuse({"model": weights})
    assert f"1 weights that are missing: {missing};" in error


@pytest.mark.parametrize("name", ["transformer.encoder.layers.0.gate.weight", "mask_head.bias"])
def test_one_unknown_weight(name, refuse):
    assert f": {name};" in refuse({"model": official_weights() | {name: torch.zeros(1)}})


def test_branches_that_differ_under_their_two_names(refuse):
    weights = official_weights("refine")
    weights["bbox_embed.1.layers.0.bias"] = weights["bbox_embed.1.layers.0.bias"] + 1
    error = refuse({"model": weights})
    assert "1 branches that differ" in error and "bbox_embed.1.layers.0.bias" in error


def test_what_has_no_counterpart(refuse, our_model):
    weights = our_model().state_dict()
    error = refuse({"state_dict": weights}, "--to", "official", "--classes", "1,2")
    assert "2 rows" in error and "80 classes" in error
    name = "backbone.layer3.0.conv2.conv_offset.weight"
    weights |= {name: torch.zeros(1)}
    assert name in refuse({"state_dict": weights}, "--to", "official")


def test_two_stage_without_refinement(refuse, our_model, convert):
    weights = our_model("two-stage").state_dict()
    for key in weights:
        if "_branches." in key:
            weights[key] = weights[key.replace(key.split(".")[2], "0", 1)]
    assert "with_box_refine=False" in refuse({"state_dict": weights}, "--to", "official")
    convert({"state_dict": weights}, "forced.pth", "--to", "official", "--variant", "two-stage")


@pytest.mark.parametrize(
    ("contents", "named"),
    [
        ({"weight": torch.zeros(3), "bias": torch.zeros(1)}, "weight, bias"),
        ({"ema_state_dict": {"module.a": torch.zeros(1)}, "epoch": 3}, "average"),
        ({"optimizer": {"lr": 0.1}, "epoch": 3}, "'optimizer', 'epoch'"),
        ({"model": {}}, "no weights"),
        ([torch.zeros(1)], "no weights"),
    ],
)
def test_no_weights_of_ours(contents, named, refuse):
    error = refuse(contents)
    assert "source.pth: " in error and named in error


@pytest.mark.parametrize(
    ("options", "target", "named"),
    [
        (["--to", "official"], "out.pth", "official already"),
        (["--classes", "1,1"], "out.pth", "--classes 1,1"),
        (["--classes", "dog"], "out.pth", "--classes dog"),
        (["--classes", "1,91"], "out.pth", "row 91"),
        ([], "out.safetensors", "out.safetensors"),
        ([], "out.onnx", "out.onnx: the name of a checkpoint ends with .pth, .pt, .bin or .safetensors"),
    ],
)
def test_wrong_arguments(options, target, named, refuse):
    assert named in refuse({"model": official_weights()}, *options, target=target)
