"""Trainings in processes of their own, and on an image that is spoilt."""

import multiprocessing
from collections.abc import Callable
from multiprocessing.context import BaseContext
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SPOILED = """
custom_imports = dict(imports=[*_base_.custom_imports.imports, "spoiled_image"])
spoil = dict(type="SpoilImage", name="3.png", kill={kill!r})
train_pipeline = [*_base_.train_pipeline[:-1], spoil, _base_.train_pipeline[-1]]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
"""


@pytest.fixture
def forkserver(monkeypatch) -> BaseContext:
    """Starts processes that have everything imported but a model package of ours, and see no GPU."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["projects.reliable_runner", "mmdet.models", "mmdet.datasets"])
    return context


@pytest.fixture
def spoil(heir, monkeypatch) -> Callable[..., Path]:
    """Writes a config whose third image is NaN, or kills the process that loads it."""
    monkeypatch.syspath_prepend(HERE)
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    return lambda kill="": heir(SPOILED.format(kill=kill), "spoiled")
