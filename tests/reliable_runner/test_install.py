"""What importing the packages replaces, in a process of its own."""

import json
import re
import subprocess
import sys
from pathlib import Path

from projects.reliable_runner.install import install

REPO = Path(__file__).resolve().parents[2]
SCRIPT = """
import importlib, json, sys

from ms_deform_attn.compat.mmcv_ops import provide_missing_ops

provide_missing_ops()  # without it mmdet cannot be imported
import mmdet.registry, mmengine.registry
from matplotlib.text import Text
import mmdet.datasets, mmdet.engine, mmdet.evaluation, mmdet.models, mmdet.visualization
from mmengine.dataset import BaseDataset
from mmengine.fileio import backends, handlers
from mmengine.registry import Registry
from mmengine.runner import CheckpointLoader, Runner
from mmengine.runner._flexible_runner import FlexibleRunner


def state():
    found = {}
    for module in (mmengine.registry, mmdet.registry):
        for registry in vars(module).values():
            if isinstance(registry, Registry):
                found |= {(id(registry), name): cls for name, cls in registry.module_dict.items()}
    for cls in (Runner, FlexibleRunner, Registry, BaseDataset, Text):
        found |= {(0, f"{cls.__name__}.{name}"): value for name, value in vars(cls).items()}
    found |= {(1, prefix): loader for prefix, loader in CheckpointLoader._schemes.items()}
    found |= {(2, name): type(handler) for name, handler in handlers.file_handlers.items()}
    return found | {(3, name): backend for name, backend in backends.registry_utils.backends.items()}


for package in sys.argv[1:]:
    before = state()
    importlib.import_module(package)
    changed = [name for (kind, name), value in state().items() if before.get((kind, name)) is not value]
    print(json.dumps(changed))
"""


def test_the_docstring_lists_all_that_is_replaced():
    """The names that an import gives another meaning in mmengine's and mmdet's registries; the model none."""
    packages = ["projects.deformable_detr", "projects.reliable_runner"]
    done = subprocess.run([sys.executable, "-c", SCRIPT, *packages], cwd=REPO, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    of_the_model, found = map(json.loads, done.stdout.splitlines()[-2:])
    assert of_the_model == []
    others = {"fully_shard()", "weights_only=True", "MultiScaleDeformableAttention"}
    documented = set(re.findall("``([^`]+)``", install.__doc__)) - others
    # Local files have the empty prefix; mmengine writes two of the prefixes as regular expressions.
    assert {name.rpartition(r"(\S+\:)?")[2] for name in found} - {""} == documented
