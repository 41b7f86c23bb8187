import pytest
import torch
import torch.nn.functional as F
from torch import nn

from projects.fast_cpu import speed_up
from projects.fast_cpu.linear import Linear


@pytest.fixture
def linear():
    torch.manual_seed(0)
    linear = nn.Linear(5, 4)
    linear.__class__ = Linear
    return linear


@pytest.mark.parametrize("shape", [(5,), (7, 5), (2, 7, 5), (2, 3, 7, 5)])
@pytest.mark.parametrize("bias", [True, False])
def test_equals_float64(shape, bias):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 4, bias=bias))
    speed_up(model)
    assert type(model[0]) is Linear
    x, grad = torch.randn(shape), torch.randn(*shape[:-1], 4)
    found = outputs(model, x, grad)
    for a, b in zip(found, outputs(model.double(), x.double(), grad.double()), strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-6, atol=1e-6)


def outputs(model, x, grad):
    x = x.detach().requires_grad_(True)
    model.zero_grad()
    y = model(x)
    y.backward(grad)
    with torch.no_grad():
        torch.testing.assert_close(model(x), y, rtol=0, atol=0)
    return y.detach(), x.grad, *(p.grad.clone() for p in model.parameters())


def test_transposed_input_and_gradient(linear):
    x, grad = torch.randn(5, 7).t(), torch.randn(4, 7).t()
    found = outputs(linear, x.clone(), grad)
    linear.__class__ = nn.Linear
    torch.testing.assert_close(found, outputs(linear, x.clone(), grad))


@pytest.mark.parametrize("frozen", ["weight", "bias"])
def test_frozen_parameters(linear, frozen):
    getattr(linear, frozen).requires_grad_(False)
    linear(torch.randn(3, 5)).sum().backward()
    assert getattr(linear, frozen).grad is None
    assert all(p.grad is not None for p in linear.parameters() if p.requires_grad)


def test_autocast_and_no_rows(linear):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert linear(torch.randn(3, 5)).dtype is torch.bfloat16
    output = linear(torch.randn(0, 5, requires_grad=True))
    output.sum().backward()
    assert output.shape == (0, 4)
    assert linear.weight.grad.count_nonzero() == 0


def test_wrong_width_is_refused(linear):
    with pytest.raises(RuntimeError):
        linear(torch.randn(3, 6))


def test_compiles_to_torchs_own(linear):
    graph = torch.export.export(linear, (torch.randn(3, 5),)).graph
    assert torch.ops.aten.linear.default in [node.target for node in graph.nodes]
    x = torch.randn(3, 5)
    torch.testing.assert_close(linear(x), F.linear(x, linear.weight, linear.bias))


def test_activation_in_place():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 4), nn.ReLU(inplace=True))
    x = torch.randn(2, 3, 5)
    expected = outputs(model, x, torch.ones(2, 3, 4))
    speed_up(model)
    torch.testing.assert_close(outputs(model, x, torch.ones(2, 3, 4)), expected)
