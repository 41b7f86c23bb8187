"""The keywords that a class or function takes."""

import ast
import inspect
import textwrap
from collections.abc import Callable
from functools import cache

from torch import nn


def keywords(target: Callable) -> set[str] | None:
    """Return the keywords that ``target`` takes, or None if it takes any.

    ``**kwargs`` of a constructor is followed to the next constructor among the bases; with several direct
    bases it may be handed on to any of them.
    """
    bases = inspect.getmro(target)[:-1] if inspect.isclass(target) else ()
    owners = [base for base in bases if base is not nn.Module and "__init__" in vars(base)]
    inits = [vars(owner)["__init__"] for owner in owners] or [target]
    one_line = all(len(base.__bases__) == 1 for base in bases)
    names: set[str] = set()
    takes_any = False
    for init in inits:
        try:
            parameters = inspect.signature(init).parameters.values()
        except ValueError:  # built in
            return None
        names |= {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
        rest = next((p.name for p in parameters if p.kind == p.VAR_KEYWORD), None)
        takes_any = rest is not None
        if takes_any:
            popped = _popped_before_handed_on(init, rest)
            if popped is None:
                return None
            names |= popped
        elif one_line:
            break
    return None if takes_any else names - {"self"}


@cache
def _popped_before_handed_on(init: Callable, rest: str) -> set[str] | None:
    """Return the keys that ``init`` takes out of ``**rest``; None if no base gets the others."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(init)))
    except (OSError, TypeError, SyntaxError):
        return None
    popped, handed_on = set(), False
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute):
            if call.func.attr == "__init__":
                handed_on |= any(k.arg is None and ast.unparse(k.value) == rest for k in call.keywords)
            elif ast.unparse(call.func) in (f"{rest}.pop", f"{rest}.get"):
                popped |= {arg.value for arg in call.args[:1] if isinstance(arg, ast.Constant)}
    return popped if handed_on else None
