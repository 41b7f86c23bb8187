"""A config and the files that it inherits, in which a name has one value."""

import ast
import inspect
import re
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from unittest.mock import patch

from mmengine.config import Config
from mmengine.runner import FlexibleRunner, Runner

from .errors import InputError

# What mmengine and mmdet read at the top of a config.
RUNNER_KEYS = {
    *inspect.signature(Runner).parameters,
    *inspect.signature(FlexibleRunner).parameters,
    *("model_wrapper_cfg", "find_unused_parameters", "runner_type", "tta_model", "tta_pipeline"),
} - {"cfg"}
# Names of MMDetection 2, or of habit, that are not spelt like the keys that took their place.
_FORMER = {
    "checkpoint_config": "default_hooks.checkpoint",
    "data": "train_dataloader",
    "evaluation": "val_evaluator",
    "learning_rate": "optim_wrapper.optimizer.lr",
    "log_config": "default_hooks.logger",
    "lr_config": "param_scheduler",
    "optimizer_config": "optim_wrapper",
    "resume_from": "resume",
    "runner": "train_cfg",
    "train_batch_size_per_gpu": "train_dataloader.batch_size",
    "workflow": "train_cfg",
}
_MOST_PASSES = 9  # two names that are made of each other's inherited value never settle
_SUBSTITUTE = "_substitute_predefined_vars"  # mmengine calls it with each file and where to write its text


class _Files:
    """The files of a config, the named one first, and what stands at their tops.

    ``options`` stand above all files; ``values`` is what names have in files that do not own them.
    """

    def __init__(self, path: Path, options: set[str], values: dict) -> None:
        self.owner = dict.fromkeys(options, "")  # the first file that sets a name, "" for an option
        self.overridden: set[str] = set()  # the names that a further file sets as well
        self.read: set[str] = set()  # the names that a file reads
        self.heirs: set[str] = set()  # the files that inherit others
        substitute = getattr(Config, _SUBSTITUTE)

        def note(filename: str, target: str) -> None:
            substitute(filename, target)
            if filename.endswith(".py"):
                self._note(filename, Path(target), values)

        with patch.object(Config, _SUBSTITUTE, staticmethod(note)):
            self.cfg = Config.fromfile(path)

    def _note(self, filename: str, target: Path, values: dict) -> None:
        text = target.read_text(encoding="utf-8")
        tree = ast.parse(text, filename)
        lines = text.splitlines()
        if "_base_" in set().union(*map(_stored, tree.body)):
            self.heirs.add(filename)
        for statement in reversed(tree.body):
            for name in _stored(statement) - RUNNER_KEYS - {"_base_"}:
                owned = self.owner.setdefault(name, filename) == filename
                if not owned:
                    self.overridden.add(name)
                # What the owner makes of the inherited value is kept, or it would be made again.
                if name in values and not (owned and f"_base_.{name}" not in ast.unparse(statement)):
                    _set_after(lines, statement, name, values[name])
        for node in ast.walk(tree):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                self.read.add(node.id)
            elif isinstance(node, ast.Attribute):
                self.read.add(node.attr)
        self.read |= set(re.findall(r"_base_\.(\w+)", text))
        target.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _stored(node: ast.AST) -> set[str]:
    """The names that a statement sets at the top of a file."""
    if isinstance(node, ast.Name):
        return {node.id} if isinstance(node.ctx, ast.Store) else set()
    if isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.Lambda, ast.comprehension)):
        return set()
    return set().union(*map(_stored, ast.iter_child_nodes(node)))


def _set_after(lines: list[str], statement: ast.stmt, name: str, value: object) -> None:
    """Set ``name`` after a statement, on its line where the grammar allows it: errors keep their lines."""
    text = repr(value)
    if isinstance(value, str):  # a folder that the file adds names to keeps its slash
        text = f"{value.rstrip('/') + '/'!r} if str({name}).endswith('/') else {text}"
    last = statement.end_lineno - 1
    if isinstance(statement, (ast.Assign, ast.AnnAssign, ast.AugAssign)):
        line = lines[last].encode()
        end = statement.end_col_offset
        lines[last] = f"{line[:end].decode()}; {name} = {text}{line[end:].decode()}"
    else:
        lines.insert(last + 1, f"{name} = {text}")


def read_files(path: Path, options: dict) -> Config:
    """Read a config and merge ``options``, keys of which may have dots.

    What a file or an option sets at the top counts in the inherited files too: ``max_epochs = 2`` also where
    one of them says ``train_cfg = dict(max_epochs=max_epochs)``. mmengine leaves that at the inherited value.
    `InputError` if an option does not fit, or it or the file sets a name that nothing reads, and another key
    would do it.
    """
    tops = {key.partition(".")[0] for key in options} - RUNNER_KEYS
    known: dict = {}
    for _ in range(_MOST_PASSES):
        values = known
        files = _Files(path, tops, values)
        try:
            files.cfg.merge_from_dict(options)
        except (AssertionError, AttributeError, KeyError, TypeError, IndexError) as error:
            raise InputError(f"--cfg-options do not fit {path}: {error.args[0]}") from error
        plain = files.cfg.to_dict()
        known = {name: plain[name] for name in files.overridden if name in plain}
        if known == values:
            break
    _check_names(files, path, tops)
    return files.cfg


def _check_names(files: _Files, path: Path, options: set[str]) -> None:
    """Names are free, unless one is, was, or nearly spells, a name or key that would be read.

    Looked at are files that inherit others, but for those of other packages: their names may be left over, as
    are those of a config that a run has written.
    """
    places: dict[str, list[str]] = {}
    for key in [key for key in files.cfg if key in RUNNER_KEYS]:
        for place in _places(files.cfg[key], key):
            places.setdefault(place.rpartition(".")[2], []).append(place)
    heirs = {path for path in files.heirs if "site-packages" not in path}
    named = {name for name, owner in files.owner.items() if owner in heirs or not files.heirs}
    variables = (files.read & files.owner.keys()) - options
    for name in sorted((named | options) - files.read):
        near = get_close_matches(name, RUNNER_KEYS, n=1, cutoff=0.9)
        if files.heirs or name in options:
            former = [_FORMER[name]] if name in _FORMER else []
            near = former or get_close_matches(name.lower(), variables, n=1) or places.get(name) or near
            near = near or places.get(*get_close_matches(name, places, n=1, cutoff=0.75) or [""])
        if near:
            place = path if name in options else files.owner[name]
            known = " or ".join(map(repr, near[:3]))
            raise InputError(f"{place}: nothing reads {name!r}; did you mean {known}?")


def _places(value: object, place: str) -> Iterator[str]:
    """The keys below a key, with dots."""
    if isinstance(value, dict):
        for key, child in value.items():
            yield f"{place}.{key}"
            yield from _places(child, f"{place}.{key}")
    elif isinstance(value, (list, tuple)):
        for index, child in enumerate(value):
            yield from _places(child, f"{place}.{index}")
