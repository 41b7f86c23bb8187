"""A detector from pixels to detections as one function of tensors, which `torch.export` can trace."""

from copy import deepcopy

import torch
import torch.nn.functional as F
from mmdet.models.backbones import SwinTransformer
from mmdet.models.detectors import DETR
from torch import Tensor, nn
from torch.export import Dim

from projects.dat.attention import DeformableAttention
from projects.deformable_detr.detector import DeformableDETR
from projects.deformable_detr.geometry import boxes_in_pixels
from projects.deformable_detr.levels import padding_of
from projects.fast_cpu import speed_up
from projects.fast_cpu.conv import Conv2d
from projects.reliable_runner.errors import InputError
from projects.reliable_runner.run_state import input_channels

OPEN_SIZES = dict(image=dict.fromkeys((0, 2, 3), Dim.DYNAMIC), sizes={0: Dim.DYNAMIC})
OUTPUTS = ["boxes", "scores", "labels"]


class DetectorGraph(nn.Module):
    """A detector with its data preprocessor and its postprocessing; batch norms fused into convolutions.

    ``detector``, a `DeformableDETR` of any variant or mmdet's ``DETR``, stays as it is. `InputError` if it is
    another, or can't be traced with open sizes.
    """

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        self.detect = {DeformableDETR: _detect_deformable, DETR: _detect_detr}.get(type(detector))
        if self.detect is None:
            raise InputError(
                f"model.type is {type(detector).__name__}; what can be exported are DeformableDETR of this "
                "code base, all variants, and mmdet's DETR"
            )
        if isinstance(detector.backbone, SwinTransformer):
            raise InputError(
                "model.backbone is SwinTransformer, whose windows torch.export does not trace to an end "
                "where the image's size is open"
            )
        self.detector = deepcopy(detector).eval().requires_grad_(False)
        speed_up(self.detector)
        for module in self.modules():
            if isinstance(module, Conv2d):
                module.fold()
            if isinstance(module, DeformableAttention):
                module.max_bias_elements = None  # the number of parts would be that of the traced size
            if isinstance(module, nn.MultiheadAttention):
                module.__class__ = OpenMultiheadAttention
        self.num_channels = input_channels(detector)
        self.eval()

    def example(self) -> tuple[Tensor, Tensor]:
        """Inputs to trace with: no two numbers of them are equal, so that none is taken for another."""
        return torch.zeros(2, self.num_channels, 416, 608), torch.tensor([[416, 350], [290, 608]])

    def forward(self, image: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Detect objects in a batch.

        Args:
            image: (bs, channels, height, width), float32, pixels as the test pipeline makes them: [0, 255],
                of three channels in the order BGR. Images begin at the top left corner; what is beside them
                is ignored.
            sizes: (bs, 2), int64, height and width of each image.

        Returns:
            Boxes (bs, n, 4), x1, y1, x2, y2 in pixels of ``image``, scores (bs, n), falling, and labels
            (bs, n), int64.
        """
        preprocessor = self.detector.data_preprocessor
        if preprocessor._channel_conversion and self.num_channels == 3:
            image = image[:, [2, 1, 0]]
        if preprocessor._enable_normalize:
            image = (image - preprocessor.mean) / preprocessor.std
        padding = padding_of(sizes, image.shape[2:], image.shape[2:])[:, None]
        return self.detect(self.detector, image.masked_fill(padding, preprocessor.pad_value), sizes)


class OpenMultiheadAttention(nn.MultiheadAttention):
    """As its base class in evaluation, of whose views `torch.export` makes a graph for one batch size."""

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        attn_mask: None = None,
        need_weights: bool = False,
    ) -> tuple[Tensor, None]:
        """Attend; ``key_padding_mask`` is (bs, keys), True on padding. The weights are not returned."""
        inputs = query, key, value
        if not self.batch_first:
            inputs = (x.transpose(0, 1) for x in inputs)
        projections = zip(inputs, self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3), strict=True)
        heads = [F.linear(*x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for x in projections]
        mask = None if key_padding_mask is None else ~key_padding_mask[:, None, None]
        attended = F.scaled_dot_product_attention(*heads, attn_mask=mask)
        output = self.out_proj(attended.transpose(1, 2).flatten(2))
        return output if self.batch_first else output.transpose(0, 1), None


def _detect_deformable(detector: DeformableDETR, image: Tensor, sizes: Tensor) -> tuple[Tensor, ...]:
    outputs = detector.forward_transformer(image, sizes)
    return detector.bbox_head.detect(outputs["hidden_states"], outputs["references"], sizes)


def _detect_detr(detector: DETR, image: Tensor, sizes: Tensor) -> tuple[Tensor, ...]:
    """What mmdet's ``pre_transformer`` and ``predict`` do with lists of sizes."""
    feat = detector.extract_feat(image)[-1]
    mask = padding_of(sizes, image.shape[2:], feat.shape[2:])
    tokens, positions = (x.flatten(2).mT for x in (feat, detector.positional_encoding(mask)))
    mask = mask.flatten(1)
    memory = detector.encoder(query=tokens, query_pos=positions, key_padding_mask=mask)
    decoder_inputs, _ = detector.pre_decoder(memory)
    hidden_states = detector.forward_decoder(**decoder_inputs, memory_mask=mask, memory_pos=positions)
    logits, boxes = (x[-1] for x in detector.bbox_head(**hidden_states))

    head = detector.bbox_head
    if head.loss_cls.use_sigmoid:  # a query may be several objects, as in `DeformableDETRHead.detect`
        scores = logits.sigmoid().flatten(1)
        labels = torch.arange(head.num_classes).repeat(logits.shape[1]).expand_as(scores)
        boxes = boxes.repeat_interleave(head.num_classes, 1)
    else:
        scores, labels = logits.softmax(-1)[..., :-1].max(-1)
    scores, best = scores.topk(min(head.test_cfg.get("max_per_img", logits.shape[1]), scores.shape[1]))
    boxes = boxes.gather(1, best[..., None].expand(-1, -1, 4))
    return boxes_in_pixels(boxes, sizes), scores, labels.gather(1, best)
