"""Trainings in processes of their own."""

import multiprocessing
from multiprocessing.context import BaseContext

import pytest


@pytest.fixture
def forkserver(monkeypatch) -> BaseContext:
    """Starts processes that have everything imported but a model package of ours, and see no GPU."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["projects.reliable_runner", "mmdet.models", "mmdet.datasets"])
    return context
