"""Parameters with equal settings go to the optimizer as one group."""

from mmengine.optim import DefaultOptimWrapperConstructor
from torch import nn


class GroupedOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """mmengine's constructor makes a group of each parameter, and optimizers step group by group.

    With few groups a fused or foreach optimizer updates all parameters of a group at once. What is learnt is
    the same.
    """

    def add_params(self, params: list[dict], module: nn.Module, prefix: str = "", **kwargs) -> None:
        """Add the parameters of ``module`` to the groups ``params``; at the root merge equal groups."""
        super().add_params(params, module, prefix=prefix, **kwargs)
        if prefix:
            return
        merged: dict[str, dict] = {}
        for group in params:
            settings = {key: value for key, value in group.items() if key != "params"}
            first = merged.setdefault(repr(sorted(settings.items())), {**settings, "params": []})
            first["params"] += group["params"]
        params[:] = merged.values()
