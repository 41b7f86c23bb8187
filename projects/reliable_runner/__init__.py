"""mmengine's Runner for trainings that must not be lost: exact resume, checked input, clear errors.

Importing this package calls `install`.
"""

from ms_deform_attn.compat.mmcv_ops import provide_missing_ops

# mmdet cannot be imported before this where mmcv has no compiled ops.
provide_missing_ops()

from .install import install  # noqa: E402

install()
