"""From the channels of the backbone to the width of the transformer."""

from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from torch import Tensor, nn

from .registry import MODELS


@MODELS.register_module()
class ChannelMapper(BaseModule):
    """One convolution a backbone level, then stride-2 convolutions for further levels (paper, A.1).

    Args:
        in_channels: channels of each input level.
        out_channels: channels of every output level.
        kernel_size: of the convolutions on the input levels; the further levels use 3.
        conv_cfg: type of convolution; None is ``Conv2d``.
        norm_cfg: normalisation after each convolution; None leaves it out.
        act_cfg: activation after each convolution; None leaves it out.
        bias: of the convolutions; "auto" means only where there is no normalisation.
        num_outs: number of output levels; None means as many as inputs.
        init_cfg: mmengine's initialisation.
    """

    def __init__(
        self,
        in_channels: list[int],
        out_channels: int,
        kernel_size: int = 3,
        conv_cfg: dict | None = None,
        norm_cfg: dict | None = None,
        act_cfg: dict | None = dict(type="ReLU"),
        bias: bool | str = "auto",
        num_outs: int | None = None,
        init_cfg: dict | None = dict(type="Xavier", layer="Conv2d", distribution="uniform"),
    ) -> None:
        super().__init__(init_cfg)
        self.in_channels = in_channels
        common = dict(conv_cfg=conv_cfg, norm_cfg=norm_cfg, act_cfg=act_cfg, bias=bias)
        self.convs = nn.ModuleList(
            ConvModule(c, out_channels, kernel_size, padding=(kernel_size - 1) // 2, **common)
            for c in in_channels
        )
        num_extra = (num_outs or len(in_channels)) - len(in_channels)
        extra_in = [in_channels[-1], *[out_channels] * (num_extra - 1)][:num_extra]
        self.extra_convs = nn.ModuleList(
            ConvModule(c, out_channels, 3, stride=2, padding=1, **common) for c in extra_in
        )

    def forward(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Levels (bs, in_channels[i], h_i, w_i) to ``num_outs`` levels (bs, out_channels, h_i, w_i)."""
        outs = [conv(x) for conv, x in zip(self.convs, inputs, strict=True)]
        x = inputs[-1]
        for conv in self.extra_convs:
            x = conv(x)
            outs.append(x)
        return tuple(outs)
