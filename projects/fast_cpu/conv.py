"""Convolutions by oneDNN, in the memory format that it likes, with the batch norm behind them folded in."""

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

    def forward(self, input: Tensor) -> Tensor:
        """(bs, in_channels, h, w) to (bs, out_channels, h', w')."""
        weight, bias = self._current()
        if onednn_serves(input, weight) and self.padding_mode == "zeros" and isinstance(self.padding, tuple):
            # By torch's own choice small inputs do not go to oneDNN, nor do those of one image on one thread.
            return torch.mkldnn_convolution(
                input.contiguous(memory_format=torch.channels_last),
                weight,
                bias,
                self.padding,
                self.stride,
                self.dilation,
                self.groups,
            )
        return self._conv_forward(input, weight, bias)

    def fold(self) -> None:
        """Take the norm behind it into its own parameters for good."""
        weight, bias = self._current()
        self.weight = nn.Parameter(weight.detach(), requires_grad=False)
        self.bias = None if bias is None else nn.Parameter(bias.detach(), requires_grad=False)
        self.norms = ()

    def _current(self) -> tuple[Tensor, Tensor | None]:
        """Weight and bias with those of the norm; kept until one of their sources changes."""
        if not (self.norms and self.norms[0].is_folded):
            return self.weight, self.bias
        (norm,) = self.norms
        sources = [self.weight, self.bias, norm.weight, norm.bias, norm.running_mean, norm.running_var]
        sources = [source for source in sources if source is not None]
        learns = torch.is_grad_enabled() and any(source.requires_grad for source in sources)
        if learns or torch.compiler.is_compiling() or self.weight.is_inference():
            return self._folded(norm)
        # Tensors that change get a new version or other memory; statistics do not, but are counted.
        state = [(source.data_ptr(), source._version) for source in [*sources, norm.num_batches_tracked]]
        if self.__dict__.get("_state") != state:
            weight, bias = self._folded(norm)
            self._kept = weight.contiguous(memory_format=torch.channels_last), bias
            self._state = state
        return self._kept

    def _folded(self, norm: FoldedNorm) -> tuple[Tensor, Tensor]:
        scale = (norm.running_var + norm.eps).rsqrt()
        if norm.weight is not None:
            scale = scale * norm.weight
        shift = -norm.running_mean if self.bias is None else self.bias - norm.running_mean
        shift = shift * scale if norm.bias is None else shift * scale + norm.bias
        return self.weight * scale[:, None, None, None], shift
