"""The same numbers in less time on a CPU: modules that stand in for torch's in a model that is built.

Names, parameters and ``state_dict`` of the model stay as they are. On other devices, in other dtypes and
under compilers the modules do what torch's do.
"""

from ms_deform_attn.compat.mmcv_ops import provide_missing_ops

# mmdet cannot be imported before this where mmcv has no compiled ops.
provide_missing_ops()

from .memory import keep_memory  # noqa: E402
from .stand_ins import speed_up  # noqa: E402

__all__ = ["keep_memory", "speed_up"]
