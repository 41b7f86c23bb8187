"""A model that calls compiled ops of mmcv runs where they are installed, or is refused."""

from torch import nn

from ms_deform_attn.compat.mmcv_ops import HOW_TO_GET_OPS, are_missing, callers_of_ops

from ..errors import InputError


def check_compiled_ops(model: nn.Module, config: str) -> None:
    """`InputError`, which names ``config``, for a model that needs ops of mmcv which are not installed.

    Beside modules of ``mmcv.ops`` these are the kinds of NMS that an mmdet head's ``test_cfg`` asks for,
    other than the plain one; a loss on a GPU may need one too.
    """
    if not are_missing():
        return
    needs: dict[str, list[str]] = {}
    for name, module in callers_of_ops(model):
        needs.setdefault(type(module).__name__, []).append(name)
    for name, module in model.named_modules():
        nms = (getattr(module, "test_cfg", None) or {}).get("nms") or {}
        if name and (kind := nms.get("type", "nms")) != "nms":
            needs.setdefault(kind, []).append(name)
    parts = [
        f"model.{names[0]} {f'(and {len(names) - 1} more parts) ' if names[1:] else ''}needs {op}"
        for op, names in needs.items()
    ]
    if parts:
        raise InputError(f"{config}: a compiled op of mmcv is missing: {'; '.join(parts)}. {HOW_TO_GET_OPS}")
