"""The annotation files and image folders that a config names."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from mmcv.image import rescale_size
from mmdet.datasets import CocoDataset
from mmengine.config import Config
from mmengine.registry import DATASETS, TRANSFORMS, init_default_scope

from projects.reliable_runner.errors import InputError
from projects.reliable_runner.log import quiet

_RESIZES = ("Resize", "DETRResize")


@dataclass
class Source:
    """An annotation file with its images."""

    split: str  # "train", "val" or "test"; several files of a split are numbered
    cfg: dict  # of its data set
    ann_file: str
    folder: str  # what the file names of the images are relative to
    classes: Sequence[str] | str  # names by label, or the string that a config has in their place
    is_scored: bool  # whether the COCO metric reads the file too

    @property
    def labels(self) -> Sequence[str]:
        """Names by label, also where the config has a string."""
        return (self.classes,) if isinstance(self.classes, str) else self.classes

    def loader(self) -> Callable[[dict], dict]:
        """What loads the images in the pipeline."""
        steps = self.cfg.get("pipeline", [])
        loaders = (step for step in steps if str(step.get("type")).endswith("LoadImageFromFile"))
        return TRANSFORMS.build(next(loaders, dict(type="LoadImageFromFile")))

    def load(self) -> None:
        """Read the data set as a training does, without output; raises what a training would."""
        with quiet():
            DATASETS.build({**self.cfg, "pipeline": []})


def find_sources(cfg: Config, splits: Sequence[str] | None = None) -> list[Source]:
    """Find the data sets of a config, inside wrappers such as ``RepeatDataset`` and ``ConcatDataset`` too.

    By default they are of all ``splits`` that the config has, "test" only if it is not the same as "val".

    Raises:
        InputError: there are none, the config does not have one of ``splits``, or a data set is not COCO's.
    """
    init_default_scope(cfg.get("default_scope") or "mmdet")
    configs = {
        split: loader.dataset
        for split in ("train", "val", "test")
        if (loader := cfg.get(f"{split}_dataloader"))
    }
    absent = [f"{split}_dataloader" for split in splits or () if split not in configs]
    if absent or not configs:
        raise InputError(f"{cfg.filename}: it has no {', '.join(absent) or 'dataloader'}")
    if splits is None and configs.get("test") == configs.get("val"):
        configs.pop("test", None)
    leaves = {split: list(_leaves(configs[split])) for split in splits or configs}
    return [
        _source(f"{split} {number}" if len(parts) > 1 else split, part)
        for split, parts in leaves.items()
        for number, part in enumerate(parts, 1)
    ]


def _leaves(cfg: dict) -> Iterator[dict]:
    inner = cfg.get("datasets") or ([cfg.dataset] if "dataset" in cfg else [])
    for part in inner:
        yield from _leaves(part)
    if not inner:
        yield cfg


def _source(split: str, cfg: dict) -> Source:
    with DATASETS.switch_scope_and_registry(None) as registry:
        kind = registry.get(cfg["type"]) if isinstance(cfg["type"], str) else cfg["type"]
    if kind is None or not issubclass(kind, CocoDataset):
        raise InputError(f"the data set of {split} is a {cfg['type']}; only CocoDataset can be checked")
    dataset = DATASETS.build({**cfg, "pipeline": [], "lazy_init": True})  # its file is not read
    folder, classes = dataset.data_prefix.get("img", ""), dataset._metainfo["classes"]
    return Source(split, cfg, dataset.ann_file, folder, classes, dataset.test_mode)


def input_resize(cfg: Config) -> Callable[[float, float], tuple[float, float]] | None:
    """From width and height of an image the factors of the test pipeline's ``Resize``, if it has one."""
    loader = cfg.get("test_dataloader") or cfg.get("val_dataloader") or {}
    steps = next(_leaves(loader.dataset), {}).get("pipeline", []) if loader else []
    step = next((step for step in steps if step.get("type") in _RESIZES and "scale" in step), None)
    if step is None:
        return None
    scale = (step.scale,) * 2 if isinstance(step.scale, int) else tuple(step.scale)

    def factors(width: float, height: float) -> tuple[float, float]:
        if step.type == "DETRResize" or step.get("keep_ratio"):
            return (rescale_size((width, height), scale, return_scale=True)[1],) * 2
        return scale[0] / width, scale[1] / height

    return factors
