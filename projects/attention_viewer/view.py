"""One image as the model sees it: its attention and its detections."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from mmengine.dataset import pseudo_collate
from torch import Tensor, nn

from projects.reliable_runner.data.image_arrays import as_shown
from projects.reliable_runner.errors import InputError
from projects.reliable_runner.inference import Image, load_image, prepare
from projects.reliable_runner.metric.coco_metric import check_finite

from .detections import Detections, predict
from .frame import META_KEYS, ImageFrame
from .record import Record, record_attention
from .truth import TrueBoxes, matched_queries


@dataclass
class View:
    """An image, what each layer attended to, and what was detected."""

    image: np.ndarray  # the original one, (h, w, 3), RGB, uint8
    frame: ImageFrame  # from units of the network's image to pixels of the original one
    input_frame: ImageFrame  # from pixels of the network's input to pixels of the original image
    record: Record  # of a batch of one
    detections: Detections
    classes: Sequence[str]
    matches: Tensor | None = None  # (num_layers, number of true boxes), see `matched_queries`

    @classmethod
    def of(
        cls, detector: nn.Module, image: Image, truth: TrueBoxes | None = None, name: str | None = None
    ) -> "View":
        """Run a detector, `DeformableDETR` or mmdet's ``DETR``, on one image, see `inference_detector`.

        With its true boxes the view has the pairs that the losses match. Messages say the ``name`` of an
        array.

        Raises:
            InputError: the model is another one, the image can't be read, or a prediction for it is NaN or
                infinite.
        """
        detector.test_pipeline[-1].meta_keys = META_KEYS  # whatever the config keeps
        batch = pseudo_collate([prepare(detector, image, name)])
        with record_attention(detector) as record:
            (sample,), *outputs = predict(detector, batch)
        frame = ImageFrame.of(sample)
        use_sigmoid = detector.bbox_head.loss_cls.use_sigmoid
        detections = Detections.of_outputs(*outputs, use_sigmoid, frame)
        check_finite(dict(bboxes=detections.boxes, scores=detections.scores), name or image)
        return cls(
            image=shown_image(detector, image),
            frame=frame,
            input_frame=ImageFrame.of_input(sample),
            record=record,
            detections=detections,
            classes=detector.dataset_meta["classes"],
            matches=None if truth is None else matched_queries(detector, sample, *outputs, truth),
        )

    def layers(self, stage: str, layer: str) -> list[int]:
        """The layers that a user names: "all", "last" or a number from 0; `InputError` if there are none."""
        count = len(self.record[stage])
        if not count:
            lacks = "deformable attention in its backbone" if stage == "backbone" else stage
            raise InputError(f"--stage {stage}: the model has no {lacks}")
        layers = list(range(count))
        if layer == "all":
            return layers
        return layers[-1:] if layer == "last" else [_number("layer", layer, f"the {stage}", count)]

    def heads(self, stage: str, head: int | None, layer: int = 0) -> list[int]:
        """All heads of a layer, or the one that a user names; `InputError` if there is none."""
        count = self.record[stage][layer].num_heads
        if head is None:
            return list(range(count))
        return [_number("head", head, f"layer {layer} of the {stage}", count)]

    def query(self, stage: str, index: int) -> int:
        """A query that a user names; `InputError` if there is none, or it is a token on padding."""
        attention = self.record[stage][0]
        _number("query", index, f"the {stage}", attention.weights.shape[1])
        if stage == "encoder" and attention.padding[0, index]:
            raise InputError(f"--query {index}: this token of the encoder is padding, not image")
        return index

    def token_at(self, point: Tensor, level: int) -> int:
        """The encoder's token nearest to a point (2,), in pixels; `InputError` if there is no such level."""
        attention = self.record["encoder"][0]
        _number("level", level, "the model", len(attention.masks))
        distances = (self.frame.to_pixels(attention.reference_points[0]) - point).norm(dim=-1)
        is_other = [mask[0].flatten() | (i != level) for i, mask in enumerate(attention.masks)]
        return int(distances.masked_fill(torch.cat(is_other), torch.inf).argmin())

    def caption(self, layer: int, query: int) -> str:
        """Class and score that a decoder layer gives a query."""
        label = int(self.detections.labels[layer, query])
        return f"{self.classes[label]} {self.detections.scores[layer, query]:.2f}"


def shown_image(detector: nn.Module, image: Image) -> np.ndarray:
    """An image as it is shown, (h, w, 3), RGB, uint8; a file is read as the detector reads it."""
    return as_shown(load_image(detector, image))[..., ::-1]


def _number(option: str, number: int | str, owner: str, count: int) -> int:
    """The ``number`` of an option, from 0, of things of which ``owner`` has ``count``."""
    if not str(number).isdigit() or int(number) >= count:
        raise InputError(f"--{option} {number}: {owner} has {count}, numbered from 0")
    return int(number)
