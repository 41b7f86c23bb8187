"""Detectors as files for onnxruntime, OpenVINO and AOTInductor, and such files as detectors."""
