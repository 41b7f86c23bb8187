"""Steps of the optimizer: only with finite gradients, in mixed precision on request."""

import torch
from mmengine.dist import all_reduce
from mmengine.logging import MessageHub
from mmengine.optim import AmpOptimWrapper as _AmpOptimWrapper
from mmengine.optim import OptimWrapper as _OptimWrapper
from torch import Tensor
from torch.nn.utils import get_total_norm

from ..errors import InputError, NonFiniteError
from .complete_steps import CompleteSteps


class OptimWrapper(CompleteSteps, _OptimWrapper):
    """mmengine's wrapper, which takes `CompleteSteps`, and each only if the norm of the gradients is finite.

    A NaN loss makes that norm NaN too, and the gradients of a distributed run are averaged, so that all its
    processes refuse the same step without a further message between them.
    """

    scales_losses = False

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self._losses: list[Tensor] = []  # since the last step

    def update_params(
        self, loss: Tensor, step_kwargs: dict | None = None, zero_kwargs: dict | None = None
    ) -> None:
        """As in mmengine; raises what `step` does."""
        self._losses.append(loss.detach())
        super().update_params(loss, step_kwargs, zero_kwargs)

    def step(self, **kwargs) -> None:
        """Clip the gradients and update the parameters.

        Raises:
            NonFiniteError: A gradient is NaN or infinite, in all processes of a distributed run at once.
                Nothing is updated, and the gradients are as they were. Where losses are scaled, gradients
                that overflow are the scaler's to skip; then a loss must be it too.
        """
        self.require_finite()
        super().step(**kwargs)

    def require_finite(self) -> None:
        """See `step`."""
        losses = self._losses.copy()
        self._losses.clear()
        parameters = (p for group in self.optimizer.param_groups for p in group["params"])
        gradients = [p.grad for p in parameters if p.grad is not None]
        if get_total_norm(gradients).isfinite():
            return
        here = not all(loss.isfinite() for loss in losses)
        if self.scales_losses:
            anywhere = torch.tensor(float(here), device=gradients[0].device)
            all_reduce(anywhere, "max")
            if not anywhere:
                return
        what = "loss" if here else "gradients"
        iteration = MessageHub.get_current_instance().get_info("iter", 0) + 1  # as logs count
        raise NonFiniteError(
            f"non-finite {what} at iteration {iteration}. Usual causes: a learning rate too high, float16 "
            "(try --amp bfloat16), no gradient clipping."
        )


class AmpOptimWrapper(_AmpOptimWrapper, OptimWrapper):
    """mmengine's mixed-precision wrapper, without its demand for a GPU where the type is bfloat16.

    bfloat16 has float32's range of exponents, so its losses are not scaled and ``loss_scale`` is unused.

    Raises:
        InputError: ``dtype`` is neither "float16" nor "bfloat16", or "float16" without a GPU.
    """

    def __init__(self, dtype: str = "float16", **kwargs):
        if dtype == "bfloat16":
            for scaling_option in ("loss_scale", "use_fsdp"):
                kwargs.pop(scaling_option, None)
            super(_AmpOptimWrapper, self).__init__(**kwargs)
            self.cast_dtype = torch.bfloat16
            self.loss_scaler = torch.amp.GradScaler("cpu", enabled=False)
            self._scale_update_param = None
        elif dtype != "float16":
            raise InputError(f"mixed precision in {dtype!r}: choose 'float16' or 'bfloat16'")
        elif not torch.cuda.is_available():
            raise InputError(
                "mixed precision in float16 needs a GPU, and torch finds none; "
                "on a CPU use bfloat16 (--amp bfloat16) or leave --amp out"
            )
        else:
            super().__init__(dtype=dtype, **kwargs)

    @property
    def scales_losses(self) -> bool:
        """Whether gradients may overflow by the scale alone."""
        return self.loss_scaler.is_enabled()

    def step(self, **kwargs) -> None:
        """See `OptimWrapper.step`; the scaler adapts its scale."""
        self.require_finite()
        super().step(**kwargs)
