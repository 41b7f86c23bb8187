"""The config key ``compile``."""

from functools import wraps

from mmengine.runner import Runner

from ..run_state import bare_model

NETWORKS = ("backbone", "neck", "encoder", "decoder")


def compile_networks(maybe_compile):
    """Let ``compile = True``, or a dict of ``torch.compile``'s options, compile each network.

    mmengine compiles the step with all that is Python in it: matching, data samples, the optimizer.
    """

    @wraps(maybe_compile)
    def maybe_compile_networks(runner: Runner, target: str) -> None:
        options = runner.cfg.get("compile")
        if not options:
            return
        model = bare_model(runner)
        networks = [getattr(model, name, None) for name in NETWORKS]
        for network in networks:
            if network is not None and network._compiled_call_impl is None:  # train, then validate
                network.compile(**({} if options is True else options))
        runner.logger.info("compiles at the first batch of each shape, which takes a minute or more")

    return maybe_compile_networks
