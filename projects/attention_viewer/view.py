"""One image as the model sees it: its attention, its detections, and the query that is looked at."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from projects.reliable_runner.data.image_arrays import as_shown
from projects.reliable_runner.errors import InputError
from projects.reliable_runner.inference import make_batch, read_image

from .detections import Detections, predict
from .frame import META_KEYS, ImageFrame
from .record import Record, SampledAttention, on_padding, record_attention, token_centres


@dataclass
class View:
    """An image, what each layer attended to, and what was detected.

    Args:
        image: the original image, (h, w, 3), RGB, uint8.
        frame: from units of the network's image to pixels of the original one.
        input_frame: from pixels of the network's input to pixels of the original image.
        record: attention of each layer, of a batch of one.
        detections: of each decoder layer.
        classes: their names.
    """

    image: np.ndarray
    frame: ImageFrame
    input_frame: ImageFrame
    record: Record
    detections: Detections
    classes: Sequence[str]

    @classmethod
    def of(cls, detector: nn.Module, path: str | Path) -> "View":
        """Run a detector on one image.

        Args:
            detector: `DeformableDETR` or mmdet's ``DETR`` on a CPU, as `init_detector` returns it.
            path: the image.

        Raises:
            InputError: the model is another one, or the image can't be read.
        """
        detector.test_pipeline[-1].meta_keys = META_KEYS  # whatever the config keeps
        batch = make_batch(detector, [path])
        with record_attention(detector) as record:
            (sample,), cls_scores, bbox_preds = predict(detector, batch)
        frame = ImageFrame.of(sample)
        use_sigmoid = detector.bbox_head.loss_cls.use_sigmoid
        return cls(
            image=as_shown(read_image(detector, path))[..., ::-1],
            frame=frame,
            input_frame=ImageFrame.of_input(sample),
            record=record,
            detections=Detections.of_outputs(cls_scores, bbox_preds, use_sigmoid, frame),
            classes=detector.dataset_meta["classes"],
        )

    def layers(self, stage: str, layer: str) -> list[int]:
        """The layers that a user names: "all", "last" or a number from 0.

        Raises:
            InputError: there is no such stage or layer.
        """
        number = len(getattr(self.record, stage))
        if not number:
            lacks = "deformable attention in its backbone" if stage == "backbone" else stage
            raise InputError(f"--stage {stage}: the model has no {lacks}")
        if layer == "all":
            return list(range(number))
        if layer == "last":
            return [number - 1]
        if not layer.isdigit() or int(layer) >= number:
            raise InputError(f"--layer {layer}: the {stage} has the layers 0 to {number - 1}, last and all")
        return [int(layer)]

    def heads(self, stage: str, head: int | None, layer: int = 0) -> list[int]:
        """All heads of a layer, or the one that a user names.

        Raises:
            InputError: there is no such head.
        """
        number = getattr(self.record, stage)[layer].num_heads
        if head is None:
            return list(range(number))
        if not 0 <= head < number:
            raise InputError(f"--head {head}: layer {layer} of the {stage} has the heads 0 to {number - 1}")
        return [head]

    def has_points(self, stage: str) -> bool:
        """Whether the attention is deformable."""
        return all(isinstance(a, SampledAttention) for a in getattr(self.record, stage))

    def query_of_index(self, stage: str, index: int) -> int:
        """A query by its number.

        Raises:
            InputError: there is none of that number, or it is a token on padding.
        """
        attention = getattr(self.record, stage)[0]
        number = attention.weights.shape[1]
        if not 0 <= index < number:
            raise InputError(f"--query {index}: the {stage} has the queries 0 to {number - 1}")
        if stage == "encoder" and on_padding(attention.masks)[0, index]:
            raise InputError(f"--query {index}: this token of the encoder is padding, not image")
        return index

    def query_of_rank(self, stage: str, rank: int, score_thr: float, level: int) -> int:
        """The query of a detection, the best being 1; for the encoder the token at the centre of its box.

        Raises:
            InputError: there are fewer detections, or no such level.
        """
        if stage == "decoder":
            return self.detections.at_rank(rank, score_thr)
        return self._nearest_token(self.centre_of_rank(rank, score_thr), level)

    def query_of_point(self, stage: str, point: Tensor, score_thr: float, level: int) -> int:
        """The token, or the query whose detected box has its centre, nearest to a point.

        Args:
            stage: "encoder" or "decoder".
            point: (2,), x and y in pixels of the original image.
            score_thr: least score of a detection, for the decoder.
            level: of the token, for the encoder.

        Raises:
            InputError: the point lies outside the image, nothing is detected, or there is no such level.
        """
        self.check_inside(point)
        if stage == "encoder":
            return self._nearest_token(point, level)
        queries = self.detections.ranked(score_thr)
        distances = (self.detections.centres()[queries] - point).norm(dim=-1)
        return int(queries[distances.argmin()])

    def check_inside(self, point: Tensor) -> None:
        """A point that a user names, (2,), x and y in pixels, lies in the original image.

        Raises:
            InputError: it does not.
        """
        (x, y), (w, h) = point.tolist(), self.frame.size
        if not (0 <= x <= w and 0 <= y <= h):
            raise InputError(f"--point {x:g} {y:g} lies outside the image, which is {w} x {h}")

    def centre_of_rank(self, rank: int, score_thr: float) -> Tensor:
        """The centre of a detection's box, (2,), in pixels of the original image; the best is 1.

        Raises:
            InputError: there are fewer detections.
        """
        return self.detections.centres()[self.detections.at_rank(rank, score_thr)]

    def _nearest_token(self, point: Tensor, level: int) -> int:
        masks = self.record.encoder[0].masks
        if not 0 <= level < len(masks):
            raise InputError(f"--level {level}: the model has the levels 0 to {len(masks) - 1}")
        distances = (self.frame.to_pixels(token_centres(masks)[0]) - point).norm(dim=-1)
        others = [mask if i == level else torch.ones_like(mask) for i, mask in enumerate(masks)]
        return int(distances.masked_fill(on_padding(others)[0], torch.inf).argmin())

    def caption(self, layer: int, query: int) -> str:
        """Class and score that a decoder layer gives a query."""
        label = int(self.detections.labels[layer, query])
        return f"{self.classes[label]} {self.detections.scores[layer, query]:.2f}"
