"""Convolutions by oneDNN, in the memory format that it likes, with the batch norm behind them folded in."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from .linear import onednn_serves


class Place(NamedTuple):
    """Where a convolution and the batch norm behind it were when they became a pair.

    Others may put modules of their own there later: a convolution of more channels, the ``Identity`` of a
    ``fuse_conv_bn``.
    """

    parent: nn.Module
    conv: str
    norm: str

    def folded(self) -> "FoldedNorm | None":
        """The norm that the convolution does too: both are still there, and the statistics are fixed."""
        conv, norm = (self.parent._modules.get(name) for name in (self.conv, self.norm))
        if not (
            isinstance(conv, Conv2d) and isinstance(norm, FoldedNorm) and conv.place is norm.place is self
        ):
            return None
        return None if norm.training or norm.running_mean is None else norm


class FoldedNorm(nn.BatchNorm2d):
    """A batch norm that the `Conv2d` before it does with its own, unless it takes statistics of the batch."""

    place: Place | None = None  # the pair's; a copy, whose parent may be another, has none and normalises

    def forward(self, input: Tensor) -> Tensor:
        """(bs, num_features, h, w), normalised."""
        return input if self.place and self.place.folded() is self else super().forward(input)

    def __getstate__(self) -> dict:
        """What a copy gets."""
        return {key: value for key, value in self.__dict__.items() if key != "place"}


class Conv2d(nn.Conv2d):
    """As its base class, or as both where the norm behind it is folded."""

    place: Place | None = None  # the pair's, if a batch norm is behind it; a copy has none
    _packed: tuple | None = None  # what the weights were, and the packed ones

    def forward(self, input: Tensor) -> Tensor:
        """(bs, in_channels, h, w) to (bs, out_channels, h', w')."""
        is_plain = self.padding_mode == "zeros" and isinstance(self.padding, tuple)
        if not (is_plain and input.dim() == 4 and onednn_serves(input, self.weight)):
            return self._conv_forward(input, *self._folded())
        # By torch's own choice small inputs do not go to oneDNN, nor does a single image on one thread.
        input = input.contiguous(memory_format=torch.channels_last)
        geometry = self.padding, self.stride, self.dilation, self.groups
        if torch.is_grad_enabled() or self.weight.is_inference():
            return torch.mkldnn_convolution(input, *self._folded(), *geometry)
        try:
            packed = self._packed_for(input.shape, geometry)
            return torch.ops.mkldnn._convolution_pointwise(input, *packed, *geometry, "none", [], "")
        except RuntimeError:  # without a word on which sizes do not fit, which torch's own has
            return self._conv_forward(input, *self._folded())

    def fold(self) -> None:
        """Take the norm behind it into its own parameters for good; in its place nothing is done."""
        weight, bias = self._folded()
        if norm := self._norm():
            self.place.parent._modules[self.place.norm] = nn.Identity()
            self.place = norm.place = None
        self.weight = nn.Parameter(weight.detach(), requires_grad=False)
        self.bias = None if bias is None else nn.Parameter(bias.detach(), requires_grad=False)

    def __getstate__(self) -> dict:
        """What a copy gets: not the packed weights either, which torch can't copy."""
        return {key: value for key, value in self.__dict__.items() if key not in ("place", "_packed")}

    def _norm(self) -> FoldedNorm | None:
        return self.place and self.place.folded()

    def _folded(self) -> tuple[Tensor, Tensor | None]:
        """Weight and bias with those of the norm."""
        if (norm := self._norm()) is None:
            return self.weight, self.bias
        scale = (norm.running_var + norm.eps).rsqrt()
        if norm.weight is not None:
            scale = scale * norm.weight
        shift = -norm.running_mean if self.bias is None else self.bias - norm.running_mean
        shift = shift * scale if norm.bias is None else shift * scale + norm.bias
        return self.weight * scale[:, None, None, None], shift

    def _packed_for(self, shape: torch.Size, geometry: tuple) -> tuple[Tensor, Tensor | None]:
        """`_folded`, the weight in oneDNN's order for images of this shape; made anew where they change.

        The order for large images is several times slower on small ones.
        """
        norm, packed = self._norm(), self._packed  # which another thread may replace
        of_norm = [] if norm is None else [norm.weight, norm.bias, norm.running_mean, norm.running_var]
        others = [x for x in (self.bias, *of_norm) if x is not None]
        state = shape, geometry, [(x.data_ptr(), x._version) for x in (self.weight, *others)]
        # What is written through `.data`, as mmengine's EMAHook does, gets no new version. A row and a column
        # of the weights show it, unless the rest alone was written: to read all slows a small model by 8 %.
        numbers = torch.cat([self.weight[0].flatten(), self.weight[:, 0].flatten(), *others])
        if not (packed and packed[0] == state and torch.equal(packed[1], numbers)):
            weight, bias = self._folded()
            weight = torch.ops.mkldnn._reorder_convolution_weight(weight, *geometry, shape)
            self._packed = packed = state, numbers, (weight, bias)
        return packed[2]
