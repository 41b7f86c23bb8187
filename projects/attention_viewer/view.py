"""One image as the model sees it: its attention, its detections, and the query that is looked at."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps
from torch import Tensor, nn

from projects.reliable_runner.errors import InputError

from .detections import Detections, at_rank
from .frame import ImageFrame
from .loading import predict
from .record import Record, SampledAttention, cell_centres, on_padding, record_attention


@dataclass
class View:
    """An image, what each layer attended to, and what was detected.

    Args:
        image: the original image, (h, w, 3), RGB, uint8.
        frame: from units of the network's image to pixels of the original one.
        input_frame: from pixels of the network's input to pixels of the original image.
        record: attention of each layer, of a batch of one.
        detections: of each decoder layer.
        classes: their names, if they are known.
    """

    image: np.ndarray
    frame: ImageFrame
    input_frame: ImageFrame
    record: Record
    detections: Detections
    classes: Sequence[str] | None

    @classmethod
    def of(cls, model: nn.Module, batch: dict, classes: Sequence[str] | None = None) -> "View":
        """Run the model on one image.

        Args:
            model: `DeformableDETR` or mmdet's ``DETR``, in evaluation mode.
            batch: the image, see `read_image`.
            classes: names of the classes, if they are known.

        Raises:
            InputError: the model is another one.
        """
        with record_attention(model) as record:
            (sample,), cls_scores, bbox_preds = predict(model, batch)
        frame, input_frame = ImageFrame.of(sample), ImageFrame.of_input(sample)
        use_sigmoid = model.bbox_head.loss_cls.use_sigmoid
        detections = Detections.of_outputs(cls_scores, bbox_preds, use_sigmoid, frame)
        image = ImageOps.exif_transpose(Image.open(sample.img_path)).convert("RGB")
        return cls(np.asarray(image), frame, input_frame, record, detections, classes)

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
            raise InputError(
                f"--layer {layer}: the {stage} has the layers 0 to {number - 1}; or say all, last"
            )
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
            where = f" in layer {layer}" if stage == "backbone" else ""
            raise InputError(f"--head {head}: the {stage} has the heads 0 to {number - 1}{where}")
        return [head]

    def has_points(self, stage: str) -> bool:
        """Whether the attention is deformable."""
        return all(isinstance(a, SampledAttention) for a in getattr(self.record, stage))

    def query_of_index(self, stage: str, index: int) -> int:
        """A query by its number.

        Raises:
            InputError: there is none of that number, or it is a cell on padding.
        """
        attention = getattr(self.record, stage)[0]
        number = attention.weights.shape[1]
        if not 0 <= index < number:
            raise InputError(f"--query {index}: the {stage} has the queries 0 to {number - 1}")
        if stage == "encoder" and on_padding(attention.masks)[0, index]:
            raise InputError(f"--query {index}: this cell of the encoder is padding, not image")
        return index

    def query_of_rank(self, stage: str, rank: int, score_thr: float, level: int) -> int:
        """The query of a detection, the best being 1; for the encoder the cell at the centre of its box.

        Raises:
            InputError: there are fewer detections, or no such level.
        """
        if stage == "decoder":
            return at_rank(self.detections.ranked(score_thr), rank)
        return self._nearest_cell(self.centre_of_rank(rank, score_thr), level)

    def query_of_point(self, stage: str, point: Tensor, score_thr: float, level: int) -> int:
        """The cell, or the query whose detected box has its centre, nearest to a point.

        Args:
            stage: "encoder" or "decoder".
            point: (2,), x and y in pixels of the original image.
            score_thr: least score of a detection, for the decoder.
            level: of the cell, for the encoder.

        Raises:
            InputError: the point lies outside the image, nothing is detected, or there is no such level.
        """
        self.check_inside(point)
        if stage == "encoder":
            return self._nearest_cell(point, level)
        queries = self.detections.ranked(score_thr)
        distances = (self.detections.centres()[queries] - point).norm(dim=-1)
        return int(queries[distances.argmin()])

    def check_inside(self, point: Tensor) -> None:
        """A point that a user names, (2,), x and y in pixels, lies in the original image.

        Raises:
            InputError: it does not.
        """
        if not self.frame.contains(*point.tolist()):
            w, h = self.frame.size
            x, y = point.tolist()
            raise InputError(f"--point {x:g} {y:g} lies outside the image, which is {w} x {h}")

    def centre_of_rank(self, rank: int, score_thr: float) -> Tensor:
        """The centre of a detection's box, (2,), in pixels of the original image; the best is 1.

        Raises:
            InputError: there are fewer detections.
        """
        return self.detections.centres()[at_rank(self.detections.ranked(score_thr), rank)]

    def _nearest_cell(self, point: Tensor, level: int) -> int:
        masks = self.record.encoder[0].masks
        if not 0 <= level < len(masks):
            raise InputError(f"--level {level}: the model has the levels 0 to {len(masks) - 1}")
        sizes = [mask[0].numel() for mask in masks]
        start = sum(sizes[:level])
        cells = slice(start, start + sizes[level])
        centres = self.frame.to_pixels(cell_centres(masks)[0, cells])
        distances = (centres - point).norm(dim=-1)
        distances[on_padding(masks)[0, cells]] = float("inf")
        return start + int(distances.argmin())

    def caption(self, layer: int, query: int) -> str:
        """Class and score that a decoder layer gives a query."""
        label = int(self.detections.labels[layer, query])
        name = self.classes[label] if self.classes else f"class {label}"
        return f"{name} {self.detections.scores[layer, query]:.2f}"
