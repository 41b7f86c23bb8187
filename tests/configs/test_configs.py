"""Every config has the right names, builds, trains every parameter and predicts."""

import copy
import json
import shutil
import tempfile
from functools import cache, partial
from pathlib import Path
from unittest.mock import patch

import mmdet
import numpy as np
import pytest
import torch
from mmcv.transforms import Compose
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope, init_default_scope
from mmengine.structures import InstanceData
from torch import nn

from projects.deformable_detr.registry import DATASETS, HOOKS, METRICS, MODELS
from projects.reliable_runner.config import read_files

CONFIGS = {
    path.stem: path
    for path in sorted((Path(__file__).parents[2] / "configs").rglob("*.py"))
    if "_base_" not in path.parts
}
DOCS = Path(__file__).parents[2] / "docs"
OURS = ("projects.deformable_detr", "projects.dino")
THEIRS = Path(mmdet.__file__).parent / ".mim" / "configs"
SIZE = 64


@cache
def read(name: str) -> Config:
    return Config.fromfile(CONFIGS[name])


def load(name: str) -> Config:
    cfg = copy.deepcopy(read(name))
    init_default_scope(cfg.default_scope)
    return cfg


def build(cfg: Config, device: str = "meta") -> nn.Module:
    """The model; by default its parameters have shapes but no numbers."""
    try:
        # Swin reads numbers of a tensor.
        linspace = patch.object(torch, "linspace", partial(torch.linspace, device="cpu"))
        with torch.device(device), linspace:
            return MODELS.build(cfg.model)
    except Exception as error:
        if "dcn" in cfg.model.backbone and "compiled op of mmcv" in str(error):
            pytest.skip("DCN needs a compiled op, and mmcv is installed without them")
        raise


@pytest.fixture(scope="module", params=CONFIGS)
def built(request) -> tuple[str, Config, nn.Module]:
    cfg = load(request.param)
    return request.param, cfg, build(cfg)


@pytest.mark.parametrize("name", CONFIGS)
def test_config_is_the_same_to_mmengine_alone(name):
    def without_scopes(value):
        if isinstance(value, dict):
            return {key: without_scopes(child) for key, child in value.items() if key != "_scope_"}
        return [without_scopes(child) for child in value] if isinstance(value, (list, tuple)) else value

    assert without_scopes(read_files(CONFIGS[name], {}).to_dict()) == without_scopes(read(name).to_dict())


@pytest.mark.parametrize("name", CONFIGS)
def test_what_a_user_changes_is_reached_in_every_config(name):
    cfg = read_files(CONFIGS[name], dict(batch_size=3, lr=5e-6, max_epochs=7))
    assert cfg.train_dataloader.batch_size == 3 and cfg.optim_wrapper.optimizer.lr == 5e-6
    assert cfg.train_cfg.max_epochs == 7
    assert 7 in (cfg.param_scheduler[-1].get("T_max"), cfg.param_scheduler[-1].get("end"))


RECIPES = [
    part.split("```")[0]
    for part in (DOCS / "custom_data.md").read_text().split("```python\n")[1:]
    if part.startswith("_base_")
]


def recipe(text: str, **options) -> Config:
    """A config of the docs, which has a name of its own in configs/ while it is read."""
    with tempfile.NamedTemporaryFile("w", suffix=".py", dir=DOCS.parent / "configs") as file:
        file.write(text)
        file.flush()
        cfg = read_files(Path(file.name), options)
    init_default_scope(cfg.default_scope)
    return cfg


@pytest.mark.parametrize("text", [text for text in RECIPES if "classes = (" in text])
def test_the_docs_configs_change_all_that_they_name(text):
    cfg = recipe(text, max_epochs=3, batch_size=1, lr=1e-5)
    assert cfg.train_cfg.max_epochs == 3
    assert cfg.train_dataloader.batch_size == 1 and cfg.optim_wrapper.optimizer.lr == 1e-5
    assert 3 in (cfg.param_scheduler[-1].get("T_max"), cfg.param_scheduler[-1].get("end"))
    assert cfg.model.bbox_head.num_classes == 2
    for loader, split in (cfg.train_dataloader, "train"), (cfg.test_dataloader, "val"):
        assert loader.dataset.data_root == "data/mine/" and loader.dataset.metainfo.classes == ("cat", "dog")
        assert loader.dataset.ann_file == f"annotations/{split}.json"
        assert loader.dataset.data_prefix.img == f"{split}/"
    assert cfg.val_evaluator.ann_file == cfg.test_evaluator.ann_file == "data/mine/annotations/val.json"


def the_recipe(word: str) -> Config:
    (text,) = [text for text in RECIPES if word in text]
    return recipe(text)


def test_recipe_of_a_frozen_backbone():
    model = build(the_recipe("frozen_stages")).train()
    assert not any(parameter.requires_grad for parameter in model.backbone.parameters())
    assert all(parameter.requires_grad for parameter in model.encoder.parameters())


def test_recipe_of_many_objects():
    cfg = the_recipe("num_queries=900")
    model = build(cfg)
    assert model.num_queries == model.bbox_head.max_per_img == 900
    assert cfg.val_evaluator.proposal_nums[-1] == cfg.test_evaluator.proposal_nums[-1] == 900


def test_recipe_of_many_channels():
    cfg = the_recipe("in_channels=6")
    for loader in cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader:
        types = [step["color_type"] for step in loader.dataset.pipeline if "color_type" in step]
        assert types == ["unchanged"]
    model = build(cfg, "cpu")
    assert model.backbone.conv1.in_channels == len(model.data_preprocessor.mean) == 6


def small_data(shapes_root: Path, cfg: Config) -> Config:
    """The training set of a recipe on the drawings."""
    for dataset in leaves(cfg.train_dataloader.dataset):
        dataset.update(data_root=str(shapes_root), metainfo=dict(classes=("circle", "square", "triangle")))
    return DATASETS.build(cfg.train_dataloader.dataset)


def leaves(dataset: dict) -> list[dict]:
    inner = dataset.get("datasets") or ([dataset.dataset] if "dataset" in dataset else [])
    return [leaf for part in inner for leaf in leaves(part)] if inner else [dataset]


def test_recipe_of_background_images(shapes_root, tmp_path):
    root = Path(shutil.copytree(shapes_root, tmp_path / "data"))
    images = json.loads((root / "annotations/val.json").read_text())["images"]
    (root / "annotations/background.json").write_text(json.dumps(dict(images=images)))
    (root / "val").rename(root / "background")
    dataset = small_data(root, the_recipe("background.json"))
    assert len(dataset) == 8 + 4
    assert [len(dataset[i]["data_samples"].gt_instances) for i in range(8, 12)] == [0] * 4
    assert sum(len(dataset[i]["data_samples"].gt_instances) for i in range(8)) > 8


@pytest.mark.parametrize("name", ["no", "light", "aerial", "strong"])
def test_recipe_of_an_augmentation(shapes_root, name):
    (text,) = [text for text in RECIPES if "strong_augmentation" in text]
    text = text.replace("strong", name).replace("(320, 240)", "(48, 48)")
    dataset = small_data(shapes_root, recipe(text))
    for i in range(8):
        item = dataset[i]
        h, w = item["inputs"].shape[1:]
        boxes = item["data_samples"].gt_instances.bboxes.tensor
        assert max(h, w) <= 58 and (name != "no" or (h, w) == (48, 48))
        assert (boxes >= 0).all() and (boxes <= torch.tensor([w, h, w, h])).all()


def test_recipe_of_rare_classes(shapes_root):
    cfg = the_recipe("class_weight")
    dataset = small_data(shapes_root, cfg)
    assert len(dataset) >= 8 and dataset[0]["inputs"].shape[0] == 3
    assert build(cfg, "cpu").bbox_head.loss_cls.class_weight.tolist() == [3, 1, 1]


@pytest.mark.parametrize("name", CONFIGS)
def test_config_names_what_exists(name):
    cfg = load(name)
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        assert len(Compose(loader.dataset.pipeline).transforms)
    for hook in (*cfg.default_hooks.values(), *cfg.custom_hooks):
        assert HOOKS.get(hook["type"])
    assert METRICS.get(cfg.val_evaluator.type)


def test_config_builds_the_right_classes_and_optimises_every_parameter(built):
    name, cfg, model = built
    backbone = {base.__module__.partition(".models")[0] for base in type(model.backbone).mro()}
    assert ("projects.dat.backbone" if "_dat_" in name else "mmdet") in backbone
    if cfg.model.type == "DeformableDETR":
        parts = [model, model.encoder, model.queries, *filter(None, [model.decoder])]
        assert all(type(part).__module__.startswith(OURS) for part in parts)
        assert type(model.neck).__module__.startswith(OURS) or cfg.model.neck.type == "FPN"
        assert type(model.bbox_head.assigner).__module__.startswith(OURS)
    else:
        assert type(model).__module__.startswith("mmdet")
        assert not any(type(part).__module__.startswith(OURS) for part in model.modules())
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    optimised = {id(p) for group in wrapper.param_groups for p in group["params"]}
    assert optimised >= {id(p) for p in model.parameters() if p.requires_grad}


# Millions of parameters, levels and sampling points a level of the paper's table 2 and the official results,
# strides of the levels; levels and strides of mmdet's detectors on DAT.
PUBLISHED = {
    "ddetr_r50_50e": (40, 4, 4, [8, 16, 32, 64]),
    "ddetr_r50_50e_refine": (41, 4, 4, [8, 16, 32, 64]),
    "ddetr_r50_50e_two_stage": (41, 4, 4, [8, 16, 32, 64]),
    "dino_r50_12e": (48, 4, 4, [8, 16, 32, 64]),
    "dino_r50_12e_5scale": (48, 5, 4, [4, 8, 16, 32, 64]),
    "dino_swin-l_36e": (218, 5, 4, [4, 8, 16, 32, 64]),
    "ddetr_r50_50e_single_scale": (34, 1, 4, [32]),
    "ddetr_r50_50e_single_scale_dc5": (34, 1, 4, [16]),
    "ddetr_r50_50e_single_scale_k1": (None, 1, 1, [32]),
    "ddetr_r50_50e_levelwise": (None, 4, 4, [8, 16, 32, 64]),
    "ddetr_r50_50e_levelwise_k1": (None, 4, 1, [8, 16, 32, 64]),
    "ddetr_r50_50e_fpn": (None, 4, 4, [8, 16, 32, 64]),
    "ddetr_r50_50e_bifpn": (None, 4, 4, [8, 16, 32, 64]),
    "retinanet_dat_t_1x": (38, None, None, [8, 16, 32, 64, 128]),
    "mask_rcnn_dat_t_1x": (48, None, None, [4, 8, 16, 32, 64]),
}


@pytest.mark.parametrize("built", PUBLISHED, indirect=True)
def test_model_is_the_published(built):
    name, _, model = built
    millions, levels, points, strides = PUBLISHED[name]
    if millions:
        assert round(sum(p.numel() for p in model.parameters()) / 1e6) == millions
    if levels:
        for layer in model.decoder.layers:
            assert (layer.cross_attn.num_levels, layer.cross_attn.num_points) == (levels, points)
        for layer in model.encoder.layers:
            seen = 1 if "levelwise" in name else levels
            assert (layer.self_attn.num_levels, layer.self_attn.num_points) == (seen, points)
    feats = model.extract_feat(torch.zeros(1, 3, 128, 640, device="meta"))
    assert [feat.shape[-1] for feat in feats] == [640 // stride for stride in strides]


def sample(num_objects: int) -> DetDataSample:
    """An image whose objects, if any, are the left half and its upper part."""
    boxes = torch.tensor([[0.0, 0, SIZE / 2, SIZE], [0, 0, SIZE / 2, SIZE / 4]])[:num_objects]
    masks = BitmapMasks(np.zeros((num_objects, SIZE, SIZE), np.uint8), SIZE, SIZE)
    shape = dict(img_shape=(SIZE, SIZE), pad_shape=(SIZE, SIZE), batch_input_shape=(SIZE, SIZE))
    data_sample = DetDataSample(
        metainfo=dict(shape, img_id=0, ori_shape=(SIZE // 2, SIZE // 2), scale_factor=(2.0, 2.0))
    )
    labels = torch.zeros(num_objects, dtype=torch.long)
    data_sample.gt_instances = InstanceData(bboxes=boxes, labels=labels, masks=masks)
    data_sample.ignored_instances = InstanceData(bboxes=torch.empty(0, 4))
    return data_sample


@pytest.mark.parametrize("name", CONFIGS)
def test_config_gives_every_parameter_a_gradient_and_predicts(name):
    """Also of images without objects, so that DDP needs no ``find_unused_parameters``."""
    cfg = load(name)
    is_detr = "num_queries" in cfg.model
    if is_detr:  # a small image has few tokens to propose
        cfg.model.num_queries, cfg.model.test_cfg.max_per_img = 20, 10
        for part in filter(None, (cfg.model.encoder, cfg.model.decoder)):  # whose layers are alike
            part.num_layers = 2
    if "depths" in cfg.model.backbone:  # a block of Swin-L is as large as a ResNet
        cfg.model.backbone.depths = [1] * 4
    # mmdet's losses keep weights that are no buffers.
    model = build(cfg, "meta" if cfg.model.type == "DeformableDETR" else "cpu")
    model.to_empty(device="cpu").train()
    for tensor in model.state_dict().values():  # initialising them would take seconds
        tensor.fill_(0.01)

    images = torch.rand(2, 3, SIZE, SIZE)
    for num_objects in (2, 0):
        try:
            losses = model(images, [sample(num_objects), sample(0)], mode="loss")
        except NotImplementedError as error:
            assert "compiled op" in str(error)
            pytest.skip("the model needs compiled ops, and mmcv is installed without them")
        model.zero_grad()
        model.parse_losses(losses)[0].backward()
        without = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
        assert not without

    if not is_detr:
        return
    with torch.no_grad():
        (predicted,) = model.eval()(images[:1], [sample(0)], mode="predict")
        classes, boxes = model(images[:1], [sample(0)], mode="tensor")
    assert predicted.pred_instances.bboxes.shape == (10, 4)
    size = (1, 1, 8 * 8 + 4 * 4 + 2 * 2 + 1)  # without a decoder, the tokens of the encoder
    if cfg.model.decoder:
        size = (cfg.model.decoder.num_layers, 1, 20)
    background = cfg.model.type == "mmdet.DETR"
    assert classes.shape == (*size, cfg.model.bbox_head.num_classes + background)
    assert boxes.shape == (*size, 4)
    assert classes.isfinite().all() and boxes.isfinite().all()


def rates(name: str, key: str) -> dict[str, float]:
    """A setting of the optimiser for each parameter that is trained."""
    cfg = load(name)
    model = build(cfg)
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    values = {id(p): group[key] for group in wrapper.param_groups for p in group["params"]}
    return {n: values[id(p)] for n, p in model.named_parameters() if p.requires_grad}


def test_dat_decays_no_norm_and_no_table():
    for name, decay in rates("retinanet_dat_t_1x", "weight_decay").items():
        if name.startswith("backbone"):
            assert decay == (0.0 if "norm" in name or "table" in name else 0.05), name


def test_learning_rates_are_the_papers():
    """Paper, section A.4: 2e-4, and a tenth for backbone, sampling offsets and reference points."""
    for name, rate in rates("ddetr_r50_50e", "lr").items():
        slow = any(key in name for key in ("backbone", "sampling_offsets", "reference_points"))
        assert rate == pytest.approx(2e-5 if slow else 2e-4), name


MMDET = dict.fromkeys(
    [name for name in CONFIGS if "_50e" in name], "deformable_detr/deformable-detr_r50_16xb2-50e_coco"
) | {
    "dino_r50_12e": "dino/dino-4scale_r50_8xb2-12e_coco",
    "dino_r50_12e_5scale": "dino/dino-4scale_r50_8xb2-12e_coco",
    "dino_r50_24e": "dino/dino-4scale_r50_8xb2-24e_coco",
    "dino_r50_36e": "dino/dino-4scale_r50_8xb2-36e_coco",
    "dino_swin-l_36e": "dino/dino-5scale_swin-l_8xb2-36e_coco",
}


@pytest.mark.parametrize("name", [name for name in MMDET if name in ("dino_r50_12e", "dino_swin-l_36e")])
def test_dino_is_mmdets(name):
    """The same parameters, and settings that no parameter shows."""
    cfg, theirs = load(name), Config.fromfile(THEIRS / f"{MMDET[name]}.py")
    ours = build(cfg)
    with DefaultScope.overwrite_default_scope("mmdet"):
        expected = build(theirs)
    shapes = [{k: v.shape for k, v in model.state_dict().items()} for model in (ours, expected)]
    assert shapes[0] == shapes[1]
    for model in ours, expected:
        assert not any(m.p for m in model.encoder.modules() if isinstance(m, nn.Dropout))
        assert not any(m.p for m in model.decoder.modules() if isinstance(m, nn.Dropout))
    for key in ("num_feats", "normalize", "offset", "temperature"):
        assert getattr(ours.positional_encoding, key) == getattr(expected.positional_encoding, key)
    noise = ours.denoising, expected.dn_query_generator
    for key in ("label_noise_scale", "box_noise_scale", "num_dn_queries"):
        assert getattr(noise[0], key) == getattr(noise[1], key)
    for key in ("loss_cls", "loss_bbox", "loss_iou", "sync_cls_avg_factor"):
        assert cfg.model.bbox_head[key] == theirs.model.bbox_head[key]
    for key in ("data_preprocessor", "train_cfg", "test_cfg"):
        assert cfg.model[key] == theirs.model[key]


@pytest.mark.parametrize("name", MMDET)
def test_config_of_the_paper_trains_as_mmdets_do(name):
    """All but the data set's paths: optimiser, schedule, batches and the pipelines of images."""
    ours = load(name)
    # How fast the optimiser computes the same.
    assert ours.optim_wrapper.pop("constructor") == "GroupedOptimWrapperConstructor"
    assert ours.optim_wrapper.optimizer.pop("fused")
    theirs = Config.fromfile(THEIRS / f"{MMDET[name]}.py")
    for key in ("optim_wrapper", "param_scheduler", "train_cfg", "val_cfg", "test_cfg"):
        assert ours[key] == theirs[key], key
    assert ours.auto_scale_lr.base_batch_size == theirs.auto_scale_lr.base_batch_size
    assert ours.train_dataloader.batch_size == theirs.train_dataloader.batch_size
    assert ours.train_dataloader.dataset.pipeline == theirs.train_dataloader.dataset.pipeline
