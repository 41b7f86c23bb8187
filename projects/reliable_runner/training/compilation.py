"""`torch.compile` of a detector's networks."""

from functools import wraps

from mmengine.runner import Runner
from torch import nn

from ..run_state import bare_model

NETWORKS = ("backbone", "neck", "encoder", "decoder")
FOR_INFERENCE = dict(options=dict(freezing=True))  # weights become constants, in the order that oneDNN likes


def compile_networks(model: nn.Module, **options) -> None:
    """Compile those of a detector's `NETWORKS` that it has, each for itself, at its next call.

    Names, parameters and ``state_dict`` stay as they are; ``options`` are those of ``torch.compile``.
    """
    for network in (getattr(model, name, None) for name in NETWORKS):
        if network is not None:
            network.compile(**options)


def compile_by_config(maybe_compile):
    """Let the config's ``compile``, True or a dict of ``torch.compile``'s options, compile the networks.

    mmengine compiles the step with all that is Python in it: matching, data samples, the optimizer.
    """

    @wraps(maybe_compile)
    def maybe_compile_networks(runner: Runner, target: str) -> None:
        if options := runner.cfg.get("compile"):
            compile_networks(bare_model(runner), **({} if options is True else options))
            runner.logger.info("the networks are compiled at the first batch, which takes a minute or more")

    return maybe_compile_networks
