"""Parameters, gradients and optimizer state in shares: each process holds one (FSDP)."""

from collections.abc import Sequence

from mmengine._strategy import DDPStrategy
from mmengine.device import get_device
from mmengine.dist import broadcast, get_world_size, is_distributed, is_main_process
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.utils._pytree import tree_map_only

from ..errors import InputError, did_you_mean


class FSDPStrategy(DDPStrategy):
    """Shards a model with torch's ``fully_shard``, for mmengine's ``FlexibleRunner``.

    mmengine's strategy of this name wraps the model in the older ``FullyShardedDataParallel``, which runs on
    no CPU. A checkpoint is the same file as without sharding: it can be tested, and resumed, either way.

    Args:
        units: names of lists of layers; each layer is gathered by itself while it computes. Everything else
            stays gathered during the forward and backward pass. `InputError` if the model has no such list.
        **kwargs: as in mmengine's ``DDPStrategy``.
    """

    def __init__(self, *, units: Sequence[str] = ("encoder.layers", "decoder.layers"), **kwargs) -> None:
        super().__init__(**kwargs)
        self.units = units

    def _wrap_model(self, model: nn.Module) -> nn.Module:
        device = get_device()
        if not is_distributed():  # nothing to share
            return model.to(device)
        model = self.convert_model(model.to(device))
        for tensor in model.state_dict().values():
            broadcast(tensor)
        mesh = init_device_mesh(device, (get_world_size(),))
        modules = dict(model.named_modules())
        for unit in self.units:
            if unit not in modules:
                raise InputError(f"strategy.units: the model has no {unit!r}{did_you_mean(unit, modules)}")
            for layer in modules[unit]:
                fully_shard(layer, mesh=mesh)
        return fully_shard(model, mesh=mesh)

    def model_state_dict(self) -> dict:
        """All weights, on the CPU; all processes must call this."""
        return _gathered(self.model.state_dict())

    def optim_state_dict(self) -> dict:
        """The complete state of the optimizer, on the CPU; all processes must call this."""
        return _gathered(super().optim_state_dict())

    def save_checkpoint(self, filename: str, *, save_optimizer: bool = True, **kwargs) -> None:
        """Gather in all processes and write in the first; arguments as in mmengine's method."""
        if is_main_process():
            super().save_checkpoint(filename, save_optimizer=save_optimizer, **kwargs)
            return
        self.model_state_dict()
        if save_optimizer and hasattr(self, "optim_wrapper"):
            self.optim_state_dict()

    def load_model_state_dict(self, state_dict: dict, **kwargs) -> None:
        """Take this process's share of all weights."""
        own = self.model.state_dict()
        shares = {name: _share(value, own.get(name)) for name, value in state_dict.items()}
        super().load_model_state_dict(shares, **kwargs)

    def load_optim_state_dict(self, state_dict: dict) -> None:
        """Take this process's share of the complete state of an optimizer."""
        groups = self.optim_wrapper.optimizer.param_groups
        parameters = [parameter for group in groups for parameter in group["params"]]
        state = {
            index: {name: _share(value, parameters[index]) for name, value in values.items()}
            for index, values in state_dict["state"].items()
        }
        super().load_optim_state_dict({**state_dict, "state": state})


def _gathered(state: dict) -> dict:
    state = tree_map_only(DTensor, DTensor.full_tensor, state)
    return tree_map_only(Tensor, Tensor.cpu, state)


def _share(value: Tensor, like: Tensor | None) -> Tensor:
    """This process's share of ``value``, split as ``like``; ``value`` itself if it is of another shape."""
    if not isinstance(like, DTensor) or value.shape != like.shape:
        return value
    value = value.to(like.device)
    return distribute_tensor(value, like.device_mesh, like.placements, src_data_rank=None)
