"""Normalising and padding of images of any number of channels."""

from collections.abc import Sequence
from itertools import zip_longest

import torch
from mmdet.models.data_preprocessors import DetDataPreprocessor as _DetDataPreprocessor

from ..errors import InputError


class DetDataPreprocessor(_DetDataPreprocessor):
    """mmdet's ``DetDataPreprocessor`` for images of any number of channels.

    ``mean`` and ``std`` are those of each channel, or one for all; in the order of RGB where ``bgr_to_rgb``
    turns three channels. Others than three are never turned.
    """

    def __init__(
        self, mean: Sequence[float] | None = None, std: Sequence[float] | None = None, *args, **kwargs
    ) -> None:
        super().__init__(mean and mean[:1], std and std[:1], *args, **kwargs)
        self._turns = self._channel_conversion
        self._num_channels = len(mean) if mean and len(mean) > 1 else None  # None until the first batch
        if mean:
            if len(mean) != len(std):
                raise ValueError(f"mean has {len(mean)} values, but std has {len(std)}")
            self.mean, self.std = (torch.tensor(values).view(-1, 1, 1) for values in (mean, std))

    def forward(self, data: dict, training: bool = False) -> dict:
        """`InputError` if an image (channels, h, w) has other channels than the means or the first image."""
        images, samples = data["inputs"], data.get("data_samples") or ()
        wanted = self._num_channels = self._num_channels or len(images[0])
        for image, sample in zip_longest(images, samples):
            if len(image) != wanted:
                path = sample.get("img_path") if sample else None
                raise InputError(
                    f"image {path} has {len(image)} channels instead of {wanted}: all images and "
                    "model.data_preprocessor.mean must agree, see docs/custom_data.md"
                )
        self._channel_conversion = self._turns and wanted == 3
        return super().forward(data, training)
