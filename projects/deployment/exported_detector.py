"""An exported file in the place of a model."""

from pathlib import Path

import torch
from mmdet.structures import SampleList
from mmengine.model import BaseModel
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import InstanceData
from torch import Tensor

from projects.reliable_runner.errors import InputError
from projects.reliable_runner.inference import build_test_pipeline

from .description import Description
from .targets import module_of


@MODELS.register_module()
class ExportedDetector(BaseModel):
    """What tools/deployment/export.py has written, with all that `inference_detector` wants of a detector.

    The suffix of ``path`` says what runs it, on the CPU. `InputError` if it can't be read.
    """

    def __init__(self, path: str | Path) -> None:
        if not Path(path).is_file():
            raise InputError(f"{path}: there is no such file")
        session = module_of(path).Session(Path(path))
        cfg, classes, num_channels = Description.read(session.texts, path)
        init_default_scope(cfg.get("default_scope") or "mmdet")
        # It pads; the graph normalises.
        unchanged = dict(mean=None, std=None, bgr_to_rgb=False, rgb_to_bgr=False, batch_augments=None)
        super().__init__(dict(cfg.model.data_preprocessor, **unchanged))
        self.path, self.session, self.cfg = path, session, cfg
        self.dataset_meta = dict(classes=classes)
        self.test_pipeline = build_test_pipeline(cfg)
        self.num_channels = num_channels

    def forward(self, inputs: Tensor, data_samples: SampleList, mode: str = "predict") -> SampleList:
        """Detect; as ``predict`` of a detector."""
        sizes = torch.tensor([sample.img_shape[:2] for sample in data_samples])
        found = self.session(inputs.cpu(), sizes)
        for boxes, scores, labels, sample in zip(*found, data_samples, strict=True):
            factor = sample.metainfo.get("scale_factor", (1.0, 1.0))
            boxes = boxes / boxes.new_tensor(factor).repeat(2)
            sample.pred_instances = InstanceData(bboxes=boxes, scores=scores, labels=labels)
        return data_samples

    def check_classes(self, classes: list[str], source: str) -> None:
        """Raise `InputError` if the file has other classes than ``source``."""
        if classes != self.dataset_meta["classes"]:
            raise InputError(
                f"{self.path} was exported with the classes {self.dataset_meta['classes']}, but {source} has "
                f"{classes}"
            )
