"""The focal loss with settings a class."""

import mmdet.models
import numpy as np
import torch
from torch import Tensor

from .registry import MODELS


@MODELS.register_module()
class FocalLoss(mmdet.models.FocalLoss):
    """mmdet's sigmoid focal loss (Lin et al. 2017, section 3.2), for classes that differ in weight.

    Args:
        alpha: weight of the positive term, its complement that of the negative one, in [0, 1]; one number, or
            one a class.
        class_weight: factor of the loss, one number or one a class; None is 1.
        **kwargs: of mmdet's ``FocalLoss``.
    """

    def __init__(
        self, alpha: float | list[float] = 0.25, class_weight: float | list[float] | None = None, **kwargs
    ) -> None:
        super().__init__(alpha=alpha, **kwargs)
        if not all(0 <= value <= 1 for value in np.atleast_1d(alpha)):
            raise ValueError(f"alpha must lie in [0, 1], not be {alpha}")
        self.class_weight = class_weight
        for name in ("alpha", "class_weight"):
            if isinstance(value := self.__dict__[name], (list, tuple)):
                del self.__dict__[name]
                self.register_buffer(name, torch.tensor(value), persistent=False)

    def forward(self, pred: Tensor, target: Tensor, weight: Tensor | None = None, **kwargs) -> Tensor:
        """As mmdet's; ``pred`` is (..., num_classes)."""
        if self.class_weight is not None:
            weight = torch.ones_like(pred) * self.class_weight * (1 if weight is None else weight)
        return super().forward(pred, target, weight, **kwargs)
