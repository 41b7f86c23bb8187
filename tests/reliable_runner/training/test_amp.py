import pytest
import torch

from projects.deformable_detr.registry import OPTIM_WRAPPERS
from projects.reliable_runner.errors import InputError
from projects.reliable_runner.training.optim_wrapper import AmpOptimWrapper

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def build(model: torch.nn.Module, dtype: str) -> AmpOptimWrapper:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    return OPTIM_WRAPPERS.build(dict(type="AmpOptimWrapper", optimizer=optimizer, dtype=dtype))


def step(wrapper: AmpOptimWrapper, model: torch.nn.Module, x: torch.Tensor) -> torch.dtype:
    with wrapper.optim_context(model):
        out = model(x)
    wrapper.update_params(out.float().square().mean())
    return out.dtype


def test_bfloat16_steps_as_plain_autocast_does():
    torch.manual_seed(0)
    model, plain = torch.nn.Linear(4, 3).to(DEVICE), torch.nn.Linear(4, 3).to(DEVICE)
    plain.load_state_dict(model.state_dict())
    x = torch.randn(5, 4, device=DEVICE)

    assert step(build(model, "bfloat16"), model, x) is torch.bfloat16

    with torch.autocast(DEVICE, torch.bfloat16):
        loss = plain(x).float().square().mean()
    loss.backward()
    torch.optim.SGD(plain.parameters(), lr=0.1, momentum=0.9).step()
    assert torch.equal(model.weight, plain.weight)
    assert model.weight.dtype is torch.float32


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_other_types_are_refused(monkeypatch, dtype):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match=f"{dtype}.*bfloat16"):
        build(torch.nn.Linear(4, 3), dtype)


@pytest.mark.gpu
def test_float16_scales_the_loss():
    model = torch.nn.Linear(4, 3).cuda()
    wrapper = build(model, "float16")
    assert step(wrapper, model, torch.randn(5, 4, device="cuda")) is torch.float16
    assert wrapper.state_dict()["loss_scaler"]["scale"] > 1
