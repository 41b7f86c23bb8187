"""Detectors as files for onnxruntime, OpenVINO and AOTInductor, and such files as detectors."""

from ms_deform_attn.compat.mmcv_ops import provide_missing_ops

# mmdet cannot be imported before this where mmcv has no compiled ops.
provide_missing_ops()
