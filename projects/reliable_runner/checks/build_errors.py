"""What a registry can't build from a config, said in one line with the nearest names that it knows."""

import inspect
import re
from collections.abc import Callable
from functools import wraps

from mmengine.registry import Registry

from ..errors import InputError, did_you_mean

_UNEXPECTED = re.compile(r"got an unexpected keyword argument '(\w+)'")
_MISSING = re.compile(r"missing \d+ required .*argument")


def explain_errors(build: Callable) -> Callable:
    """``Registry.build``, whose errors name the type and the key of the config that is wrong.

    A type that is registered nowhere, a keyword that its class does not take or wants, and a value that a
    model refuses become an `InputError`.
    """

    @wraps(build)
    def build_or_explain(self: Registry, cfg: dict, *args, **kwargs) -> object:
        try:
            return build(self, cfg, *args, **kwargs)
        except InputError:
            raise
        except KeyError as error:
            if " is not in the " not in str(error):
                raise
            raise InputError(_unknown_type(self, cfg)) from error
        except TypeError as error:
            if message := _wrong_keyword(self, cfg, str(error)):
                raise InputError(message) from error
            raise
        except ValueError as error:
            if self.name != "model":
                raise
            raise InputError(f"{_type_name(cfg)}: {error}") from error

    return build_or_explain


def _type_name(cfg: dict) -> str:
    kind = cfg["type"]
    return kind if isinstance(kind, str) else kind.__name__


def _unknown_type(registry: Registry, cfg: dict) -> str:
    name = _type_name(cfg)
    with registry.switch_scope_and_registry(cfg.get("_scope_")) as here:
        scope, names = here.scope, set()
        while here is not None:
            names |= set(here.module_dict)
            here = here.parent
    nearest = did_you_mean(name.rpartition(".")[-1], names)
    return f"no {registry.name} is registered as {name!r} in the scope {scope!r}{nearest}"


def _wrong_keyword(registry: Registry, cfg: dict, error: str) -> str | None:
    unexpected = _UNEXPECTED.search(error)
    if not unexpected:
        return error if _MISSING.search(error) else None
    if unexpected[1] not in cfg:
        return None  # the mistake is not the config's
    with registry.switch_scope_and_registry(cfg.get("_scope_")) as here:
        kind = here.get(cfg["type"]) if isinstance(cfg["type"], str) else cfg["type"]
    # Keywords that a class hands on are parameters of its bases.
    inits = [vars(cls)["__init__"] for cls in inspect.getmro(kind)[:-1] if "__init__" in vars(cls)]
    known = {name for init in inits for name in inspect.signature(init).parameters} - {"self"}
    return f"{_type_name(cfg)} has no parameter {unexpected[1]!r}{did_you_mean(unexpected[1], known)}"
