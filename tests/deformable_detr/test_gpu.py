"""The detector on a GPU: the numbers of a CPU, repeated to the bit, and in half precision."""

import pytest
import torch

from .conftest import VARIANTS, batch, small_model

pytestmark = pytest.mark.gpu


def losses_and_gradients(
    model: torch.nn.Module, device: str, dtype: torch.dtype | None = None
) -> list[torch.Tensor]:
    """On the CPU, without dropout."""
    model = model.to(device).train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout | torch.nn.MultiheadAttention):
            module.eval()
    model.zero_grad()
    inputs, samples = batch([3, 1], [(96, 128), (128, 80)])
    with torch.autocast(device, dtype, enabled=dtype is not None):
        losses = model.loss(inputs.to(device), [sample.to(device) for sample in samples])
    sum(losses.values()).backward()
    grads = [p.grad for p in model.parameters() if p.grad is not None]
    return [tensor.detach().float().cpu() for tensor in (*losses.values(), *grads)]


@pytest.mark.parametrize("variant", VARIANTS)
def test_losses_and_gradients_are_those_of_a_cpu(variant):
    model = small_model(**VARIANTS[variant])
    expected = losses_and_gradients(model, "cpu")
    for ours, theirs in zip(losses_and_gradients(model, "cuda"), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3 * float(theirs.abs().max()))


def test_deterministic_to_the_bit(monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    model = small_model(**VARIANTS["two_stage"])
    torch.use_deterministic_algorithms(True)
    try:
        first, second = (losses_and_gradients(model, "cuda") for _ in range(2))
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_near_float32(dtype):
    model = small_model()
    expected = losses_and_gradients(model, "cuda")
    found = losses_and_gradients(model, "cuda", dtype)
    assert all(tensor.isfinite().all() for tensor in found)
    losses = [i for i, tensor in enumerate(expected) if tensor.dim() == 0]
    torch.testing.assert_close([found[i] for i in losses], [expected[i] for i in losses], rtol=0.1, atol=0.1)
