"""Unknown names and keys of a config, all of them, before anything is built."""

import inspect
from collections import ChainMap
from collections.abc import Callable, Iterator
from contextlib import suppress
from difflib import SequenceMatcher
from importlib import import_module

import mmengine.registry
from mmengine import Config
from mmengine.hooks import Hook
from mmengine.model.weight_init import BaseInit
from mmengine.optim import OptimWrapper, _ParamScheduler
from mmengine.registry import Registry
from mmengine.runner import (
    EpochBasedTrainLoop,
    IterBasedTrainLoop,
    LogProcessor,
    Runner,
    TestLoop,
    ValLoop,
)
from mmengine.utils import get_object_from_string
from torch.utils.data import DataLoader

from ..errors import InputError, did_you_mean
from .keywords import keywords

_RUNNER_KEYS = {*inspect.signature(Runner).parameters, "model_wrapper_cfg"} - {"cfg"}

# What the runner builds from a dict that names no type.
_UNTYPED: dict[str, list[Callable]] = {
    "train_dataloader": [DataLoader],
    "val_dataloader": [DataLoader],
    "test_dataloader": [DataLoader],
    "train_cfg": [EpochBasedTrainLoop, IterBasedTrainLoop],
    "val_cfg": [ValLoop],
    "test_cfg": [TestLoop],
    "optim_wrapper": [OptimWrapper],
    "log_processor": [LogProcessor],
    "randomness": [Runner.set_randomness],
}

# Keys that the runner takes out of a dict before it builds this, or something derived from it.
_CONSUMED: dict[type, set[str]] = {
    DataLoader: {"num_batch_per_epoch", "disable_subprocess_warning"},
    EpochBasedTrainLoop: {"by_epoch"},
    IterBasedTrainLoop: {"by_epoch"},
    OptimWrapper: {"constructor", "paramwise_cfg"},
    Hook: {"priority"},
    _ParamScheduler: {"convert_to_iter_based"},
    BaseInit: {"override"},
}

# Keys that the module around a dict takes out of it, by the key that holds the dict.
_CONSUMED_AT: dict[str, set[str]] = {
    "norm_cfg": {"requires_grad"},
    "loss_cls": {"bg_cls_weight"},
    "upsample_cfg": {"scale_factor", "upsample_kernel"},
    "dcn": {"fallback_on_stride", "deformable_groups"},
}

# Types that no registry knows: by the key that holds the dict, and by what takes all dicts inside it.
_UNREGISTERED_AT = {"adapt_cfg", "dqs_cfg", "nms", "roi_layer"}
_UNREGISTERED_IN = {"Albu", "FPG"}

# Keys beside ``type`` whose value is a registered name too.
_NAME_KEYS = {"constructor", "ema_type"}

_Table = dict[str, list[Callable]]


def check_config(cfg: Config) -> None:
    """Look up every name and key of ``cfg`` that a run would use.

    A ``type`` must be registered, in any kind of registry that ``default_scope`` reaches. The keys beside
    it must be parameters of what it names; where that takes any keyword they cannot be judged. Top-level
    keys are free, unless one nearly spells a key of the runner.

    Args:
        cfg: A config as ``Config.fromfile`` returns it.

    Raises:
        InputError: Something is unknown. The message has a line for each, with its path in the config and
            the nearest known names.
    """
    problems = [problem for key in cfg for problem in _misspelt(key)]
    walk = _Walk(cfg.get("default_scope") or "mmengine")
    for key in _RUNNER_KEYS & set(cfg):
        problems += walk.problems(cfg[key], key, key, _UNTYPED.get(key, []))
    if problems:
        lines = "".join(f"\n  {problem}" for problem in sorted(problems))
        raise InputError(f"{cfg.filename or 'the config'}: unknown names or keys{lines}")


class _Walk:
    """Walks a config and yields what is unknown."""

    def __init__(self, scope: str) -> None:
        self.scope = scope
        self.tables: dict[tuple[str, bool], _Table] = {}

    def problems(
        self, node: object, path: str, key: str, untyped: list[Callable] | None = None
    ) -> Iterator[str]:
        """Yield a line for each unknown name or key in ``node``, which is at ``path`` under ``key``."""
        if isinstance(node, list | tuple):
            for index, item in enumerate(node):
                yield from self.problems(item, f"{path}[{index}]", key)
        elif isinstance(node, dict) and key not in _UNREGISTERED_AT:
            outer, self.scope = self.scope, node.get("_scope_", self.scope)
            kind = node.get("type")
            targets = untyped or []
            if isinstance(kind, str):
                targets = self._lookup(kind)
            elif callable(kind):
                targets = [kind]
            for name in node.keys() & {"type", *_NAME_KEYS}:
                if isinstance(node[name], str) and not self._lookup(node[name]):
                    yield f"{path}.{name}: nothing is registered as {self._unknown(node[name])}"
            yield from _unknown_keys(node, path, key, targets)
            for name, value in node.items() if kind not in _UNREGISTERED_IN else ():
                yield from self.problems(value, f"{path}.{name}", name)
            self.scope = outer

    def _lookup(self, name: str) -> list[Callable]:
        """Return all that is registered as ``name``."""
        prefix, bare = Registry.split_scope_key(name)
        found = self._names(prefix).get(bare, [])
        if prefix is not None and not found:
            with suppress(Exception):  # a dotted path; importing it can fail in any way
                found = [get_object_from_string(name)]
        return [target for target in found if target is not None]

    def _unknown(self, name: str) -> str:
        prefix, bare = Registry.split_scope_key(name)
        names = self._names(prefix)
        if prefix is not None and not names:
            return f"{name!r}; is the package {prefix!r} installed?"
        return f"{name!r}{did_you_mean(bare, names)}"

    def _names(self, prefix: str | None) -> _Table:
        key = prefix or self.scope, prefix is None
        if key not in self.tables:
            self.tables[key] = _registered(*key)
        return self.tables[key]


def _registered(scope: str, or_root: bool) -> _Table:
    """Return what every kind of registry finds in ``scope`` (or at the root, where it has no such scope)."""
    with suppress(ImportError):
        import_module(f"{scope}.registry")
    table: _Table = {}
    for root in vars(mmengine.registry).values():
        if not isinstance(root, Registry):
            continue
        registry = root._search_child(scope)
        if registry is None and or_root:
            registry = root
        if registry is None:
            continue
        registry.import_from_location()
        chain = []
        while registry is not None:
            chain.append(registry.module_dict)
            registry = registry.parent
        for name, target in ChainMap(*chain).items():
            table.setdefault(name, []).append(target)
    return table


def _unknown_keys(node: dict, path: str, key: str, targets: list[Callable]) -> Iterator[str]:
    """Yield the keys of ``node`` that the one of ``targets`` that takes most of them does not take."""
    judged = []
    for target in targets:
        known = keywords(target)
        if known is None:
            return
        known |= {"type", "_scope_"} | _CONSUMED_AT.get(key, set())
        for base, consumed in _CONSUMED.items():
            if inspect.isclass(target) and issubclass(target, base):
                known |= consumed
        judged.append((node.keys() - known, known, target.__name__))
    if judged:
        unknown, known, name = min(judged, key=lambda item: len(item[0]))
        for word in unknown:
            yield f"{path}.{word}: {name} has no such parameter{did_you_mean(word, known)}"


def _misspelt(key: str) -> Iterator[str]:
    for known in _RUNNER_KEYS - {key}:
        if key not in _RUNNER_KEYS and SequenceMatcher(None, key, known).ratio() >= 0.9:
            yield f"{key}: no such key of the runner; did you mean {known!r}?"
