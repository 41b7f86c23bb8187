"""Parts of the paper's other rows: a BiFPN, DC5, attention within each level."""

from . import bifpn, levelwise_attention, resnet  # noqa: F401
