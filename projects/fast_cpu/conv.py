"""Convolutions by oneDNN, in the memory format that it likes, with the batch norm behind them folded in."""

from itertools import chain

import torch
from torch import Tensor, nn

from .linear import onednn_serves


class FoldedNorm(nn.BatchNorm2d):
    """A batch norm that the `Conv2d` before it does with its own, unless it takes statistics of the batch."""

    @property
    def is_folded(self) -> bool:
        """Whether its statistics are fixed."""
        return not self.training and self.running_mean is not None

    def forward(self, input: Tensor) -> Tensor:
        """(bs, num_features, h, w), normalised."""
        return input if self.is_folded else super().forward(input)


class Conv2d(nn.Conv2d):
    """As its base class, or as both where the norm behind it is folded.

    Attributes:
        norms: the batch norm behind it, or nothing; in a tuple, lest it be a module of this one too.
    """

    norms: tuple[FoldedNorm, ...] = ()
    _packed: tuple | None = None  # what the weights were, and the packed ones

    def forward(self, input: Tensor) -> Tensor:
        """(bs, in_channels, h, w) to (bs, out_channels, h', w')."""
        is_plain = self.padding_mode == "zeros" and isinstance(self.padding, tuple)
        if not (is_plain and onednn_serves(input, self.weight)):
            return self._conv_forward(input, *self._folded())
        # By torch's own choice small inputs do not go to oneDNN, nor does a single image on one thread.
        input = input.contiguous(memory_format=torch.channels_last)
        geometry = self.padding, self.stride, self.dilation, self.groups
        if torch.is_grad_enabled() or self.weight.is_inference():
            return torch.mkldnn_convolution(input, *self._folded(), *geometry)
        packed = self._packed_for(input.shape, geometry)
        return torch.ops.mkldnn._convolution_pointwise(input, *packed, *geometry, "none", [], "")

    def fold(self) -> None:
        """Take the norm behind it into its own parameters for good."""
        weight, bias = self._folded()
        self.weight = nn.Parameter(weight.detach(), requires_grad=False)
        self.bias = None if bias is None else nn.Parameter(bias.detach(), requires_grad=False)
        self.norms = ()

    def __getstate__(self) -> dict:
        """What a copy gets: not the packed weights, which torch can't copy."""
        return {key: value for key, value in self.__dict__.items() if key != "_packed"}

    def _folded(self) -> tuple[Tensor, Tensor | None]:
        """Weight and bias with those of the norm."""
        if not (self.norms and self.norms[0].is_folded):
            return self.weight, self.bias
        (norm,) = self.norms
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
        norm_state = chain.from_iterable([*norm.parameters(), *norm.buffers()] for norm in self.norms)
        others = [x for x in (self.bias, *norm_state) if x is not None]
        versions = [(x.data_ptr(), x._version) for x in (self.weight, *others)]
        state = shape, versions, [norm.training for norm in self.norms]
        # What is written through `.data`, as mmengine's EMAHook does, gets no new version.
        sums = self.weight.sum(0), self.weight.sum((1, 2, 3))
        numbers = torch.cat([x.detach().flatten() for x in (*sums, *others)])
        if not (self._packed and self._packed[0] == state and torch.equal(self._packed[1], numbers)):
            weight, bias = self._folded()
            weight = torch.ops.mkldnn._reorder_convolution_weight(weight, *geometry, shape)
            self._packed = state, numbers, (weight, bias)
        return self._packed[2]
