"""Steps of the optimizer: complete, only with finite gradients, in mixed precision on request."""

import torch
from mmengine import optim
from mmengine.dist import all_reduce
from mmengine.logging import MessageHub
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from ..errors import InputError, NonFiniteError


class OptimWrapper(optim.OptimWrapper):
    """mmengine's wrapper; a step has as many batches as `begin_step` says, and finite gradients.

    mmengine steps on every ``accumulative_counts``-th batch of the training, so that a step may hold batches
    of two epochs. Where nothing calls `begin_step` it is still so.

    A NaN loss makes the norm of the gradients NaN too, and the gradients of a distributed run are averaged,
    so that all its processes refuse the same step without a further message between them.
    """

    scales_losses = False
    _step_size: int | None = None

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self._losses: list[Tensor] = []  # since the last step

    def begin_step(self, num_batches: int) -> None:
        """Step after ``num_batches`` more batches, with the mean of their gradients."""
        self._step_size, self._step_end = num_batches, self._inner_count + num_batches

    def should_update(self) -> bool:
        return super().should_update() if self._step_size is None else self._inner_count == self._step_end

    def should_sync(self) -> bool:
        return super().should_sync() if self._step_size is None else self._inner_count + 1 == self._step_end

    def scale_loss(self, loss: Tensor) -> Tensor:
        return super().scale_loss(loss) if self._step_size is None else loss / self._step_size

    def update_params(self, loss: Tensor, *args, **kwargs) -> None:
        self._losses.append(loss.detach())
        super().update_params(loss, *args, **kwargs)

    def step(self, **kwargs) -> None:
        self.require_finite()
        super().step(**kwargs)

    def require_finite(self) -> None:
        """Raise `NonFiniteError` if a gradient is NaN or infinite, in all processes of a run at once.

        Nothing is updated then, and the gradients are as they were. Where losses are scaled, gradients that
        overflow are the scaler's to skip; then a loss must be it too.
        """
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
        iteration = MessageHub.get_current_instance().get_info("iter", 0) + 1  # as logs count
        raise NonFiniteError(
            f"non-finite {'loss' if here else 'gradients'} at iteration {iteration}. Usual causes: a "
            "learning rate too high, float16 (try --amp bfloat16), no gradient clipping."
        )


class AmpOptimWrapper(optim.AmpOptimWrapper, OptimWrapper):
    """mmengine's mixed-precision wrapper, without its demand for a GPU where the type is bfloat16.

    bfloat16 has float32's range of exponents, so its losses are not scaled and ``loss_scale`` is unused.
    `InputError` if ``dtype`` is neither "float16" nor "bfloat16", or "float16" without a GPU.
    """

    def __init__(self, dtype: str = "float16", **kwargs):
        if dtype == "bfloat16":
            for scaling_option in ("loss_scale", "use_fsdp"):
                kwargs.pop(scaling_option, None)
            super(optim.AmpOptimWrapper, self).__init__(**kwargs)
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
        self.require_finite()
        super().step(**kwargs)


class GroupedOptimWrapperConstructor(optim.DefaultOptimWrapperConstructor):
    """mmengine's constructor makes a group of each parameter; here equal groups become one.

    With few groups a fused or foreach optimizer updates many parameters at once. What is learnt is the same.
    """

    def add_params(self, params: list[dict], module: nn.Module, prefix: str = "", **kwargs) -> None:
        """Add the parameters of ``module`` to the groups ``params``; at the root merge equal groups."""
        super().add_params(params, module, prefix=prefix, **kwargs)
        if prefix:
            return
        merged: dict[str, dict] = {}
        for group in params:
            settings = {key: value for key, value in group.items() if key != "params"}
            first = merged.setdefault(repr(sorted(settings.items())), {**settings, "params": []})
            first["params"] += group["params"]
        params[:] = merged.values()
