"""Mixed precision on a GPU, and in bfloat16 on a CPU too."""

import torch
from mmengine.optim import AmpOptimWrapper as _AmpOptimWrapper

from .errors import InputError
from .optim_wrapper import WholeSteps
from .registry import OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module()
class AmpOptimWrapper(WholeSteps, _AmpOptimWrapper):
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

    def state_dict(self) -> dict:
        """Return the optimizer's state, and the loss scaler's where losses are scaled."""
        state = super().state_dict()
        if not self.loss_scaler.is_enabled():
            del state["loss_scaler"]
        return state
