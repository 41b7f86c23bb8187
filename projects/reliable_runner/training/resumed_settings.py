"""What a resumed run takes from its config, and what from the checkpoint."""

import ast
import warnings
from collections.abc import Iterator

from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, Runner

from ..log import warn

_SCHEDULE = ("optim_wrapper.optimizer", "optim_wrapper.paramwise_cfg", "param_scheduler")  # in the state
_COMPARED = ("train_cfg", "train_dataloader", "optim_wrapper", "param_scheduler", "randomness", "model")
_MOST = 20


class ResumedSettingsHook(Hook):
    """Tell in what the config differs from that of the checkpoint, and which of the two counts.

    Args:
        schedule: where learning rate, other settings of the optimizer and schedule come from: "checkpoint"
            continues as the run was started, "config" takes those that a run of this config would have at
            the epoch (or, if the run counts iterations, the iteration) of the checkpoint.
    """

    priority = "HIGH"  # before the state is compared with what the run has built

    def __init__(self, schedule: str = "checkpoint") -> None:
        if schedule not in ("checkpoint", "config"):
            raise ValueError(f"schedule must be 'checkpoint' or 'config', not {schedule!r}")
        self.schedule = schedule

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        if not runner._resume or not {"meta", "optimizer", "param_schedulers"} <= checkpoint.keys():
            return
        if table := self._table(read_config_text(checkpoint["meta"].get("cfg", "")), runner.cfg.to_dict()):
            warn(table)
        if self.schedule == "config":
            _take_schedule(runner, checkpoint)

    def _table(self, theirs: dict, ours: dict) -> str:
        rows = []
        for part in _COMPARED if theirs else ():
            for key, before, now in _differences(theirs.get(part), ours.get(part), part):
                counts = "checkpoint" if key == "randomness.seed" else "config"
                rows.append((key, before, now, self.schedule if key.startswith(_SCHEDULE) else counts))
        if not rows:
            return ""
        rows.insert(0, ("setting", "checkpoint", "config", "counts"))
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows[: _MOST + 1]]
        if len(rows) > _MOST + 1:
            lines.append(f"and {len(rows) - _MOST - 1} more")
        if any(key.startswith(_SCHEDULE) for key, *_ in rows) and self.schedule == "checkpoint":
            lines.append("--resume-schedule config takes optimizer settings and schedule from the config")
        return "\n  ".join(["the config is not the one that the checkpoint was trained with:", *lines])


def _take_schedule(runner: Runner, checkpoint: dict) -> None:
    """Step the schedule of the config to where the checkpoint is, and let the optimizer follow."""
    loop, meta, schedulers = runner.train_loop, checkpoint["meta"], runner.param_schedulers
    by_epoch = isinstance(loop, EpochBasedTrainLoop)
    epochs, iterations = (meta["epoch"], len(loop.dataloader)) if by_epoch else (1, meta["iter"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch misses the steps of the optimizer
        for _ in range(epochs):
            for step_of_epoch in [False] * iterations + [True]:
                for scheduler in schedulers:
                    if scheduler.by_epoch is step_of_epoch:
                        scheduler.step()
    checkpoint["param_schedulers"] = [scheduler.state_dict() for scheduler in schedulers]
    groups, optimizer = checkpoint["optimizer"]["param_groups"], runner.optim_wrapper.optimizer
    # Other groups, or those of another optimizer, are left for `CheckpointCheckHook` to refuse.
    for group, own in zip(groups, optimizer.param_groups, strict=False):
        taken = own.keys() - (optimizer.defaults.keys() - group.keys()) - {"params"}
        group.update({key: own[key] for key in taken})


def read_config_text(text: str) -> dict:
    """The values of a config that mmengine has written; nothing in it is run."""
    try:
        statements = ast.parse(text).body
    except SyntaxError:
        return {}
    return {s.targets[0].id: _value(s.value) for s in statements if isinstance(s, ast.Assign)}


def _value(node: ast.expr) -> object:
    if isinstance(node, ast.Call) and node.keywords and not node.args:
        return {keyword.arg: _value(keyword.value) for keyword in node.keywords}
    if isinstance(node, ast.Dict):
        return {_value(key): _value(value) for key, value in zip(node.keys, node.values, strict=True)}
    if isinstance(node, (ast.List, ast.Tuple)):
        return [_value(item) for item in node.elts]
    try:
        return ast.literal_eval(node)
    except ValueError:
        return ast.unparse(node)


def _differences(theirs: object, ours: object, key: str) -> Iterator[tuple[str, str, str]]:
    """The keys at which two configs differ, with both values."""
    theirs, ours = (list(x) if isinstance(x, tuple) else x for x in (theirs, ours))
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for name in [*ours, *(name for name in theirs if name not in ours)]:
            yield from _differences(theirs.get(name), ours.get(name), f"{key}.{name}")
    elif isinstance(theirs, list) and isinstance(ours, list) and len(theirs) == len(ours):
        for i, pair in enumerate(zip(theirs, ours, strict=True)):
            yield from _differences(*pair, f"{key}.{i}")
    elif theirs != ours:
        yield key, f"{theirs!s:.40}", f"{ours!s:.40}"
