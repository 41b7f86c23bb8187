"""The names of the parameters in a checkpoint.

mmdet keeps the parameters of the queries (``query_embedding``, ``memory_trans_fc`` and so on) at the top of
the detector. Here they belong to the module ``queries``, but a checkpoint has mmdet's names, so that either
code base loads the other's.
"""

from torch import nn

_PREFIX = "queries."


def use_mmdets_names(detector: nn.Module) -> None:
    """Let ``detector`` save and load without the prefix ``queries.``."""
    detector.register_state_dict_post_hook(_remove_prefix)
    detector.register_load_state_dict_pre_hook(_add_prefix)


def _remove_prefix(detector: nn.Module, state_dict: dict, prefix: str, _) -> None:
    for key in [key for key in state_dict if key.startswith(prefix + _PREFIX)]:
        state_dict[prefix + key[len(prefix + _PREFIX) :]] = state_dict.pop(key)


def _add_prefix(detector: nn.Module, state_dict: dict, prefix: str, *_) -> None:
    for name, _ in detector.queries.named_parameters():
        if prefix + name in state_dict:
            state_dict[prefix + _PREFIX + name] = state_dict.pop(prefix + name)
