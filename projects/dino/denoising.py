"""Queries made of the objects themselves, with noise that the decoder learns to take off again."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from mmdet.structures import DetDataSample, SampleList
from mmdet.structures.bbox import bbox_cxcywh_to_xyxy, bbox_xyxy_to_cxcywh
from mmengine.model import BaseModule
from torch import Tensor, nn

from projects.deformable_detr.geometry import inverse_sigmoid
from projects.deformable_detr.matching.assigner import Matches
from projects.deformable_detr.matching.targets import Targets
from projects.deformable_detr.queries import Queries
from projects.deformable_detr.registry import MODELS


class NoisedQueries(NamedTuple):
    """The denoising queries of a batch: for each group all objects as positives, then all as negatives."""

    query: Tensor  # (bs, num_noised, embed_dims), num_noised = num_groups * 2 * most_objects; 0 on padding
    reference_points: Tensor  # (bs, num_noised, 4) in [0, 1]; 0.5 on padding
    matches: Matches  # the positives and the objects that they were
    num_groups: int

    def before(self, queries: Queries, query_pos: Tensor | None) -> Queries:
        """``queries`` with these in front; ``query_pos`` (bs, num_noised, embed_dims) are their positions."""
        if query_pos is not None:
            query_pos = torch.cat((query_pos, queries.query_pos), 1)
        return queries._replace(
            query=torch.cat((self.query, queries.query), 1),
            query_pos=query_pos,
            reference_points=torch.cat((self.reference_points, queries.reference_points), 1),
        )

    def self_attn_mask(self, num_queries: int) -> Tensor | None:
        """Which queries do not see which (DN-DETR, section 4.4), these in front of ``num_queries`` others.

        A group sees itself and the others; these see no group, which would tell them the objects.

        Returns:
            (num_noised + num_queries,) * 2, True where a row's query must not see a column's; None if all
            queries may see all.
        """
        num_noised = self.query.shape[1]
        if not num_noised:
            return None
        index = torch.arange(num_noised, device=self.query.device)
        group = F.pad(index // (num_noised // self.num_groups), (0, num_queries), value=-1)
        return (group >= 0) & (group != group[:, None])


@MODELS.register_module()
class ContrastiveDenoising(BaseModule):
    """Objects with a little noise are to be found again, with more noise to be refused.

    DN-DETR (arXiv 2203.01305), section 4.3 to 4.5; DINO (arXiv 2203.03605), section 3.3. In training alone.

    An image's noise depends on nothing but the metainfo ``item_seed`` of its sample, in which `SeededItems`
    of ``reliable_runner`` sums up seed, epoch and index of the image; without it the noise is drawn from
    torch's generator. All images have as many groups, and as many places in a group, as the image with the
    most objects of the optimizer step, all batches and processes. So losses and gradients are the same
    however the step is split, and those of mmdet where it is one batch.

    Args:
        num_classes: number of classes, that of the head.
        embed_dims: width of the transformer.
        num_dn_queries: the positives of an image, about: there are as many groups as this holds objects of
            the image with the most, at least one. With the negatives there are twice as many queries.
        num_groups: a fixed number of groups, at least 1, in the place of ``num_dn_queries``.
        label_noise_scale: twice the share of labels that are drawn anew, in [0, 2].
        box_noise_scale: a corner of a positive moves by at most this share of half the box's width and
            height, that of a negative by once to twice as much; in (0, 1].
        init_cfg: mmengine's initialisation.

    Raises:
        ValueError: a number is out of its range.
    """

    def __init__(
        self,
        num_classes: int,
        embed_dims: int,
        num_dn_queries: int = 100,
        num_groups: int | None = None,
        label_noise_scale: float = 0.5,
        box_noise_scale: float = 1.0,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if type(num_dn_queries) is not int or num_dn_queries < 1:
            raise ValueError(f"num_dn_queries must be a whole number of at least 1, not {num_dn_queries!r}")
        if num_groups is not None and (type(num_groups) is not int or num_groups < 1):
            raise ValueError(f"num_groups must be a whole number of at least 1, or None, not {num_groups!r}")
        if not 0 <= label_noise_scale <= 2:
            raise ValueError(f"label_noise_scale must lie in [0, 2], not be {label_noise_scale}")
        if not 0 < box_noise_scale <= 1:
            raise ValueError(f"box_noise_scale must lie in (0, 1], not be {box_noise_scale}")
        self.num_classes = num_classes
        self.num_dn_queries = num_dn_queries
        self.num_groups = num_groups
        self.label_noise_scale = label_noise_scale
        self.box_noise_scale = box_noise_scale
        self.label_embedding = nn.Embedding(num_classes, embed_dims)

    def forward(self, batch_data_samples: SampleList) -> NoisedQueries:
        """Noised copies of the ``gt_instances`` of ``batch_data_samples``."""
        targets = Targets.from_samples(batch_data_samples)
        most = targets.most_objects()
        num_groups = self.num_groups or max(self.num_dn_queries // max(most, 1), 1)
        device, missing = targets.boxes.device, most - targets.labels.shape[1]
        labels = F.pad(targets.labels, (0, missing))[:, None]  # (bs, 1, most)
        boxes = F.pad(targets.boxes, (0, 0, 0, missing))[:, None]  # (bs, 1, most, 4)
        is_object = torch.arange(most) < torch.tensor(targets.num_objects)[:, None]  # (bs, most)

        noise, other_labels = self.draw(batch_data_samples, 2 * num_groups, most)
        noise, other_labels = noise.to(device), other_labels.to(device)
        labels = torch.where(noise[..., 0] < self.label_noise_scale / 2, other_labels, labels)
        shift = 2 * noise[..., 1:].to(boxes.dtype) - 1
        shift[:, 1::2] += shift[:, 1::2].sign()  # the negatives
        corners = bbox_cxcywh_to_xyxy(boxes) + shift * boxes[..., 2:].repeat(1, 1, 1, 2) * (
            self.box_noise_scale / 2
        )  # (bs, 2 * num_groups, most, 4)
        boxes = inverse_sigmoid(bbox_xyxy_to_cxcywh(corners.clamp(0, 1)), eps=1e-3).sigmoid()

        image, obj = is_object.nonzero().T
        query = (2 * most * torch.arange(num_groups)[:, None] + obj).flatten()
        matches = (image.repeat(num_groups), query, obj.repeat(num_groups))
        is_object = is_object.to(device)[:, None, :, None]
        # The embedding takes part, with a gradient of zero, where there is no object at all.
        return NoisedQueries(
            query=(self.label_embedding(labels) * is_object).flatten(1, 2),
            reference_points=boxes.where(is_object, 0.5).flatten(1, 2),
            matches=Matches(*(index.to(device) for index in matches)),
            num_groups=num_groups,
        )

    def draw(self, batch_data_samples: SampleList, num_copies: int, most: int) -> tuple[Tensor, Tensor]:
        """Numbers in [0, 1), (bs, num_copies, most, 5), and labels, (bs, num_copies, most), on the CPU."""
        noise = torch.zeros(len(batch_data_samples), num_copies, most, 5)
        labels = torch.zeros(noise.shape[:3], dtype=torch.long)
        for i, sample in enumerate(batch_data_samples):
            generator, n = _generator(sample), len(sample.gt_instances)
            noise[i, :, :n] = torch.rand(num_copies, n, 5, generator=generator)
            labels[i, :, :n] = torch.randint(self.num_classes, (num_copies, n), generator=generator)
        return noise, labels


def _generator(sample: DetDataSample) -> torch.Generator:
    seed = sample.metainfo.get("item_seed")
    return torch.Generator().manual_seed(int(torch.randint(2**63 - 1, ())) if seed is None else seed)
