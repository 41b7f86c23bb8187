"""Steps of the optimizer: only with finite gradients, in mixed precision on request."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.dist import all_reduce
from mmengine.optim import AmpOptimWrapper as _AmpOptimWrapper
from mmengine.optim import OptimWrapper as _OptimWrapper
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from ..errors import InputError, NonFiniteError, nonfinite_errors_noted
from ..run_state import nonfinite_error
from .complete_steps import WholeSteps


class OptimWrapper(WholeSteps, _OptimWrapper):
    """mmengine's wrapper, which takes `WholeSteps`, and each only if the norm of the gradients is finite.

    Whatever is not finite before the step makes that norm so too, and the gradients of a distributed run are
    averaged, so that all its processes refuse the same step without a word between them.

    Args:
        *args, **kwargs: As in `mmengine.optim.OptimWrapper`.
    """

    scales_losses = False

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self._losses: list[Tensor] = []  # since the last step
        self._errors: list[NonFiniteError] = []

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """As in mmengine; a prediction that is not finite is noted, and refused in `step`."""
        with super().optim_context(model), nonfinite_errors_noted(self._errors):
            yield

    def update_params(
        self, loss: Tensor, step_kwargs: dict | None = None, zero_kwargs: dict | None = None
    ) -> None:
        """As in mmengine.

        Raises:
            NonFiniteError: See `step`.
        """
        if self._errors:
            loss = loss * math.nan  # an unmatched prediction has no part in the loss
        self._losses.append(loss.detach())
        super().update_params(loss, step_kwargs, zero_kwargs)

    def step(self, **kwargs) -> None:
        """Clip the gradients and update the parameters.

        Raises:
            NonFiniteError: The gradients are not finite, in all processes of a distributed run at once.
                Nothing is updated, and the gradients are as they were. Where losses are scaled, gradients
                that overflow are the scaler's to skip; then a loss must be it too.
        """
        self.require_finite()
        super().step(**kwargs)

    def require_finite(self) -> None:
        """See `step`."""
        losses, errors = self._losses.copy(), self._errors.copy()
        self._losses.clear(), self._errors.clear()
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
        raise errors[0] if errors else nonfinite_error(what)


class AmpOptimWrapper(_AmpOptimWrapper, OptimWrapper):
    """mmengine's mixed-precision wrapper, without its demand for a GPU where the type is bfloat16.

    bfloat16 has float32's range of exponents, so its losses are not scaled and ``loss_scale`` is unused.

    Args:
        dtype: ``"float16"`` (a GPU only) or ``"bfloat16"``.
        **kwargs: As in `mmengine.optim.AmpOptimWrapper`.

    Raises:
        InputError: ``dtype`` is another one, or ``"float16"`` without a GPU.
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

    def state_dict(self) -> dict:
        """Return the optimizer's state, and the loss scaler's where losses are scaled."""
        state = super().state_dict()
        if not self.loss_scaler.is_enabled():
            del state["loss_scaler"]
        return state
