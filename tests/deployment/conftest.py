"""Small detectors with random weights, whose scores differ from query to query."""

import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from unittest import mock

import pytest
import torch
from torch import nn

from projects.deployment import onnx_file, openvino_file
from projects.deployment.description import Description
from projects.deployment.graph import DetectorGraph
from projects.deployment.targets import SUFFIXES, module_of
from projects.reliable_runner.inference import init_detector

TESTS = Path(__file__).resolve().parents[1]
VARIANTS = {
    "base": ("tiny_ddetr", {}),
    "refine": ("tiny_ddetr", {"model.with_box_refine": True}),
    "two_stage": ("tiny_ddetr", {"model.with_box_refine": True, "model.as_two_stage": True}),
    "encoder_only": ("tiny_ddetr", {"model.decoder": None}),
    "dino": ("tiny_dino", {}),
    "detr": ("tiny_detr", {}),
    "detr_sigmoid": ("tiny_detr", {"model.bbox_head.loss_cls.use_sigmoid": True}),
    "dat": ("tiny_dat", {}),
}


@cache
def detector_of(variant: str) -> nn.Module:
    """With weights that make equal scores, which any order may break, as good as impossible."""
    config, options = VARIANTS[variant]
    torch.manual_seed(0)
    detector = init_detector(TESTS / f"{config}.py", device="cpu", cfg_options=options)
    for name, parameter in detector.bbox_head.named_parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=0.5 if "cls" in name else 0.1)
    return detector


@pytest.fixture(scope="session")
def write(tmp_path_factory) -> Callable[[str, str], Path]:
    """Exports a variant to a target, once; OpenVINO converts the ONNX file that there is."""

    @cache
    def export(variant: str, target: str) -> Path:
        detector = detector_of(variant)
        path = tmp_path_factory.mktemp("exported") / f"{variant}{SUFFIXES[target]}"
        graph, texts = DetectorGraph(detector), Description.of(detector).texts()
        if target == "openvino":
            onnx = export(variant, "onnx")
            with mock.patch.object(onnx_file, "write", lambda graph, path, texts: shutil.copy(onnx, path)):
                openvino_file.write(graph, path, texts)
        else:
            module_of(path).write(graph, path, texts)
        return path

    return export
