"""Whether a model can learn a few images by heart, and which part is at fault if it can't."""

import copy
from collections.abc import Iterator
from itertools import islice

import torch
import torch.nn.functional as F
from mmdet.structures.bbox import HorizontalBoxes, bbox_overlaps
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS
from mmengine.runner import CheckpointLoader, load_state_dict
from torch import nn

from .checks.weights import check_fits
from .data.seeded_items import seed_generators
from .errors import InputError, NonFiniteError
from .log import quiet
from .progress import progress
from .training.hints import as_list, batch_hint, normalisation_hint

LEARNT = 0.9  # share of the objects that are found
_SCORE, _OVERLAP = 0.3, 0.5
_PLACE = 0.7  # overlap of a box with the place that the pipeline should give it
_EVERY = 25  # iterations between looks at what is found
_PATIENCE = 4  # looks in a row at which the loss has not fallen


def images_with_objects(dataset: BaseDataset, number: int) -> list[int]:
    """The first images that have an object; `InputError` if there is none."""
    infos = map(dataset.get_data_info, range(len(dataset)))
    has_object = (any(not x["ignore_flag"] for x in info["instances"]) for info in infos)
    chosen = list(islice((index for index, is_chosen in enumerate(has_object) if is_chosen), number))
    if not chosen:
        raise InputError(f"{getattr(dataset, 'ann_file', 'the training set')}: no image has an object")
    return chosen


def look_at_boxes(dataset: BaseDataset, indices: list[int]) -> Iterator[str]:
    """Compare the labels and boxes that leave the training pipeline with those of the data set."""
    if not hasattr(getattr(dataset, "pipeline", None), "transforms"):  # of wrappers only the picture tells
        return
    num_classes = len(dataset.metainfo["classes"])
    shifted = moved = total = 0
    for index in indices:
        results = info = dataset.get_data_info(index)
        truth = [x for x in info["instances"] if not x["ignore_flag"]]
        expected = torch.tensor([x["bbox_label"] for x in truth])
        boxes = HorizontalBoxes(torch.tensor([x["bbox"] for x in truth], dtype=torch.float32))
        for step in dataset.pipeline.transforms[:-1]:
            results = step(results)
        boxes.project_(results.get("homography_matrix", torch.eye(3).numpy()))
        boxes.clip_(results["img_shape"])
        found = HorizontalBoxes(getattr(results["gt_bboxes"], "tensor", results["gt_bboxes"])).clone()
        found.clip_(results["img_shape"])
        labels = torch.as_tensor(results["gt_bboxes_labels"])
        if outside := labels[(labels < 0) | (labels >= num_classes)].tolist():
            yield f"labels: {info['img_path']} has the label {outside[0]} of {num_classes} classes"
            return
        if len(found):
            overlaps, best = bbox_overlaps(found.tensor.float(), boxes.tensor).max(1)
            total += len(found)
            moved += int((overlaps < _PLACE).sum())
            shifted += int((labels != expected[best]).sum())
    if moved > total / 10:
        yield f"the training pipeline: {moved} of {total} boxes are not where its resizes and flips put them"
    elif shifted > total / 10:
        yield f"labels: {shifted} of {total} leave the training pipeline with another one"


def look_at_model(cfg: Config, batch: dict) -> Iterator[str]:
    """Compare the model with the data, without training it."""
    samples, model = batch["data_samples"], cfg.model
    most = max(len(sample.gt_instances) for sample in samples)
    queries = model.get("num_queries")
    if queries and most > queries:
        yield f"model.num_queries: {queries} queries, but an image has {most} objects"
    num_classes = (model.get("bbox_head") or {}).get("num_classes")
    label = max((label for sample in samples for label in sample.gt_instances.labels.tolist()), default=-1)
    if num_classes and label >= num_classes:
        yield f"labels: an object has the label {label}, but model.bbox_head.num_classes is {num_classes}"
    optimizer = (cfg.get("optim_wrapper") or {}).get("optimizer") or {}
    counts = cfg.optim_wrapper.get("accumulative_counts", 1)
    if hint := batch_hint(cfg, cfg.train_dataloader.batch_size * counts, optimizer.get("lr", 0)):
        yield f"optim_wrapper.optimizer.lr: {hint}"
    backbone = model.get("backbone") or {}
    sources = as_list(backbone.get("init_cfg"))
    has_weights = any(source.get("checkpoint") for source in sources) or cfg.get("load_from")
    if backbone.get("frozen_stages", -1) >= 0 and not has_weights:
        yield "model.backbone: stages are frozen, but there are no pretrained weights (init_cfg, load_from)"
    if hint := normalisation_hint(model.data_preprocessor, [image.numpy() for image in batch["inputs"]]):
        yield hint
    if optimizer.get("lr") == 0:
        yield "optim_wrapper.optimizer.lr: it is 0, nothing is learnt"


def remedies(cfg: Config, batch: dict) -> Iterator[tuple[str, Config, str]]:
    """What may be at fault, a config that changes it, and how."""

    def changed(options: dict) -> Config:
        other = copy.deepcopy(cfg)
        other.merge_from_dict(options)
        return other

    backbone = cfg.model.get("backbone") or {}
    norm = backbone.get("norm_cfg") or dict(type="BN")
    is_frozen = backbone.get("frozen_stages", -1) >= 0 or backbone.get("norm_eval")
    if is_frozen or not norm.get("requires_grad", True):
        thawed = dict(frozen_stages=-1, norm_eval=False, norm_cfg=dict(norm, requires_grad=True))
        change = {f"model.backbone.{key}": value for key, value in thawed.items()}
        yield "model.backbone", changed(change), "with a backbone that learns"
    key, given = "optim_wrapper.optimizer.lr", cfg.optim_wrapper.optimizer.get("lr") or 0
    for lr in dict.fromkeys((1e-4, 1e-3, given / 10, given * 10)):
        if lr not in (0, given):
            yield key, changed({key: lr}), f"with a learning rate of {lr:g}"
    key = "model.data_preprocessor"
    pixels = torch.cat([image.flatten() for image in batch["inputs"]]).float()
    measured = {f"{key}.mean": [pixels.mean().item()], f"{key}.std": [pixels.std().item()]}
    yield key, changed(measured), "with the images' own mean and deviation"


def shrunk(item: dict, max_side: int | None) -> dict:
    """An item of the data set whose image has no side longer than ``max_side``."""
    image, sample = item["inputs"], copy.deepcopy(item["data_samples"])
    factor = min(1, (max_side or max(image.shape[1:])) / max(image.shape[1:]))
    size = [max(1, round(side * factor)) for side in image.shape[1:]]
    boxes = getattr(sample.gt_instances.bboxes, "tensor", sample.gt_instances.bboxes)
    scale = boxes.new_tensor([size[1] / image.shape[2], size[0] / image.shape[1]]).repeat(2)
    image = F.interpolate(image[None].float(), size=size, mode="bilinear", antialias=True)[0]
    sample.gt_instances.bboxes = boxes * scale
    sample.set_metainfo(dict(img_shape=tuple(size)))
    return dict(inputs=image, data_samples=sample)


def learn(
    cfg: Config, batch: dict, device: str, iterations: int, text: str
) -> tuple[float, dict[str, float]]:
    """Train on one batch, with the config's optimizer, neither schedule nor dropout.

    Returns the share of its objects that are found in the end, 0 after a NaN step, and the last losses.
    """
    seed_generators(0)
    with quiet():  # mmengine prints a line for each parameter
        model = MODELS.build(cfg.model)
        model.init_weights()
        if cfg.get("load_from"):
            checkpoint = CheckpointLoader.load_checkpoint(cfg.load_from, map_location="cpu")
            weights = checkpoint.get("state_dict", checkpoint)
            check_fits(cfg.load_from, weights, model, exact=False)
            load_state_dict(model, weights)
        settings = {key: value for key, value in cfg.optim_wrapper.items() if key != "accumulative_counts"}
        optim_wrapper = build_optim_wrapper(model.to(device), settings)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    share, losses, lowest, stale = 0.0, {}, float("inf"), 0
    with progress(iterations, "iteration", desc=text) as bar:
        for iteration in range(1, iterations + 1):
            model.train()
            try:
                losses = model.train_step(copy.deepcopy(batch), optim_wrapper)
            except NonFiniteError:
                share = 0.0
                break
            bar.update()
            if iteration % _EVERY == 0:
                share, loss = found_share(model, batch), float(losses["loss"].detach())
                bar.set_postfix(found=f"{share:.0%}", loss=f"{loss:.3g}")
                stale = 0 if loss < 0.99 * lowest else stale + 1
                lowest = min(lowest, loss)
            if share >= LEARNT or stale == _PATIENCE:
                break
    return share, {name: float(value.detach()) for name, value in losses.items() if "." not in name}


@torch.no_grad()
def found_share(model: nn.Module, batch: dict) -> float:
    """The share of the objects that a detection of the right class overlaps, each its own."""
    data = model.eval().data_preprocessor(copy.deepcopy(batch), False)
    hits = total = 0
    for sample in model.predict(data["inputs"], data["data_samples"], rescale=False):
        found, truth = sample.pred_instances, sample.gt_instances
        total += len(truth)
        found = found[found.scores >= _SCORE]
        fits = bbox_overlaps(truth.bboxes, found.bboxes) >= _OVERLAP
        fits &= truth.labels[:, None] == found.labels
        for row in fits:
            if row.any():
                hits += 1
                fits[:, row.nonzero()[0, 0]] = False
    return hits / total
