"""The names of the parameters in a checkpoint.

mmdet keeps the parameters of the queries (``query_embedding``, ``memory_trans_fc`` and so on) at the top of
the detector, and calls the denoising ``dn_query_generator``. Here they belong to the modules ``queries`` and
``denoising``, but a checkpoint has mmdet's names, so that either code base loads the other's.
"""

from torch import nn

_PREFIXES = {"queries.": "", "denoising.": "dn_query_generator."}  # ours and mmdet's


def use_mmdets_names(detector: nn.Module) -> None:
    """Let ``detector`` save and load by mmdet's names."""
    detector.register_state_dict_post_hook(_to_mmdet)
    detector.register_load_state_dict_pre_hook(_from_mmdet)


def _to_mmdet(detector: nn.Module, state_dict: dict, prefix: str, _) -> None:
    for ours, theirs in _PREFIXES.items():
        for key in [key for key in state_dict if key.startswith(prefix + ours)]:
            state_dict[prefix + theirs + key[len(prefix + ours) :]] = state_dict.pop(key)


def _from_mmdet(detector: nn.Module, state_dict: dict, prefix: str, *_) -> None:
    for name, _ in detector.named_parameters():
        for ours, theirs in _PREFIXES.items():
            if name.startswith(ours) and (key := prefix + theirs + name[len(ours) :]) in state_dict:
                state_dict[prefix + name] = state_dict.pop(key)
