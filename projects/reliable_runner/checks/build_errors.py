"""What a registry can't build from a config, said in one line with the key and the nearest names."""

import importlib
import inspect
import os
import pkgutil
import re
import traceback
from collections.abc import Callable, Iterator
from functools import wraps
from pathlib import Path

import mmengine
import torch
from mmengine.registry import Registry

import projects

from ..errors import InputError, did_you_mean

_UNEXPECTED = re.compile(r"got an unexpected keyword argument '(\w+)'")
_MISSING = re.compile(r"missing \d+ required .*argument")
_OF_VALUES = (TypeError, ValueError, KeyError, IndexError, AttributeError, AssertionError, RuntimeError)
_NOT_TOLD = (__file__, *(f"{Path(package.__file__).parent}{os.sep}" for package in (mmengine, torch)))


class BuildError(InputError):
    """What can't be built, with the key in the config of the outermost build."""

    def __init__(self, text: str, registry: Registry, cfg: dict) -> None:
        super().__init__(text)
        self.text, self.cfg, self.kind = text, cfg, _type_name(cfg)
        self.keys, self.registry = [], registry.name

    def __str__(self) -> str:
        return f"{'.'.join([self.registry, *self.keys])} ({self.kind}): {self.text}"

    def found_in(self, registry: Registry, cfg: dict) -> None:
        """Note the way to what failed from ``cfg``, whose build has led to it."""
        self.keys = [*next(_ways(cfg, self.cfg), []), *self.keys]
        self.cfg, self.registry = cfg, registry.name
        if self.keys and (key := _runners_key(cfg, self.keys[0])):
            self.registry, self.keys = key, self.keys[1:]


def explain_errors(build: Callable) -> Callable:
    """``Registry.build``, in which a `BuildError` names the key and the type of the config that is wrong.

    That is a type that is registered nowhere, a keyword that its class does not take or wants, or a value
    that a model refuses.
    """

    @wraps(build)
    def build_or_explain(self: Registry, cfg: dict, *args, **kwargs) -> object:
        complete = {**(kwargs.get("default_args") or {}), **cfg} if isinstance(cfg, dict) else {}
        try:
            return build(self, cfg, *args, **kwargs)
        except BuildError as error:
            error.found_in(self, complete)
            raise
        except InputError:
            raise
        except Exception as error:
            if text := _explanation(self, complete, error):
                raise BuildError(text, self, complete) from error
            raise

    return build_or_explain


def _explanation(registry: Registry, cfg: dict, error: Exception) -> str | None:
    if "type" not in cfg:
        return None
    if isinstance(error, KeyError) and " is not in the " in str(error):
        return _unknown_type(registry, cfg)
    if isinstance(error, TypeError) and (text := _wrong_keyword(registry, cfg, str(error))):
        return text
    if registry.name not in ("model", "task util", "transform") or not isinstance(error, _OF_VALUES):
        return None
    if isinstance(error, ValueError):
        return str(error)
    # The message alone may say nothing, nor do lines of those who are called with a wrong value.
    frames = traceback.extract_tb(error.__traceback__)
    *_, frame = [x for x in frames if not x.filename.startswith(_NOT_TOLD)] or frames
    where = f"{frame.filename.rpartition('/')[2]}, line {frame.lineno}: {frame.line}"
    return f"{type(error).__name__}{f': {error}' if str(error) else ''} ({where})"


def _ways(cfg: object, wanted: dict) -> Iterator[list[str]]:
    """The keys that lead from ``cfg`` to the dict of which ``wanted`` was made, perhaps with more keys."""
    children = enumerate(cfg) if isinstance(cfg, (list, tuple)) else ()
    if isinstance(cfg, dict):
        if cfg and cfg.keys() <= wanted.keys() and all(wanted[key] == value for key, value in cfg.items()):
            yield []
        children = cfg.items()
    for key, child in children:
        for way in _ways(child, wanted):
            yield [str(key), *way]


def _runners_key(cfg: dict, part: str) -> str | None:
    """The key of the config of which a loop has got its data loader or evaluator as ``part``."""
    keys = (f"{split}_{part}" for split in ("train", "val", "test"))
    runner = cfg.get("runner")
    return next((key for key in keys if getattr(runner, f"_{key}", None) is cfg[part]), None)


def _type_name(cfg: dict) -> str:
    return cfg["type"] if isinstance(cfg["type"], str) else cfg["type"].__name__


def _unknown_type(registry: Registry, cfg: dict) -> str:
    name = _type_name(cfg)
    with registry.switch_scope_and_registry(cfg.get("_scope_")) as here:
        text = f"no {registry.name} is registered as {name!r} in the scope {here.scope!r}"
        if advice := _in_another_scope(here, name):
            return f"{text}, but in {advice}"
        names = set()
        while here is not None:
            names |= set(here.module_dict)
            here = here.parent
    return text + did_you_mean(name.rpartition(".")[-1], names)


def _in_another_scope(here: Registry, name: str, keyword: str = "type") -> str:
    """The scope that has ``name``, of a class that takes ``keyword``, and how to say it; "" without one."""
    # A namespace, whose packages bring scopes of their own.
    for package in pkgutil.iter_modules(projects.__path__, "projects."):
        if importlib.util.find_spec(f"{package.name}.registry"):
            importlib.import_module(f"{package.name}.registry")
    root = here
    while root.parent is not None:
        root = root.parent
    for scope, kind in sorted(_scopes_with(root, name), key=lambda pair: pair[0]):
        if scope != here.scope and (keyword == "type" or keyword in _parameters(kind)):
            return f"{scope!r}: add default_scope = {scope!r} below _base_, or say type={f'{scope}.{name}'!r}"
    return ""


def _scopes_with(registry: Registry, name: str) -> Iterator[tuple[str, type]]:
    """The scopes below a registry in which ``name`` is registered, and as what."""
    for child in registry._children.values():
        child.import_from_location()
        if name in child.module_dict:
            yield child.scope, child.module_dict[name]
        yield from _scopes_with(child, name)


def _wrong_keyword(registry: Registry, cfg: dict, error: str) -> str | None:
    unexpected = _UNEXPECTED.search(error)
    if not unexpected:
        return error if _MISSING.search(error) else None
    keyword = unexpected[1]
    if keyword not in cfg:
        return None  # the mistake is not the config's
    with registry.switch_scope_and_registry(cfg.get("_scope_")) as here:
        kind = here.get(cfg["type"]) if isinstance(cfg["type"], str) else cfg["type"]
        # mmdet's models hand "type" on with the dicts of their parts, which they build themselves.
        if advice := _in_another_scope(here, _type_name(cfg), keyword):
            return f"that of {kind.__module__} has no parameter {keyword!r}; there is another in {advice}"
    return f"it has no parameter {keyword!r}{did_you_mean(keyword, _parameters(kind))}"


def _parameters(kind: type) -> set[str]:
    """The keywords of a class: those that it hands on are parameters of its bases."""
    inits = [vars(cls)["__init__"] for cls in inspect.getmro(kind)[:-1] if "__init__" in vars(cls)]
    return {name for init in inits for name in inspect.signature(init).parameters} - {"self"}
