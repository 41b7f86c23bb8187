import copy
import pickle
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import torch
from mmcv.cnn import fuse_conv_bn
from torch import nn

from projects.fast_cpu import speed_up
from projects.fast_cpu.conv import Conv2d, FoldedNorm


def stage(**kwargs):
    """A convolution, a norm with statistics and affine numbers of its own, and the same made fast."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(4, 6, **kwargs), nn.BatchNorm2d(6), nn.ReLU(inplace=True))
    for tensor in (model[1].weight, model[1].bias, model[1].running_mean, model[1].running_var):
        tensor.data = torch.rand(6) + 0.5
    fast = copy.deepcopy(model)
    speed_up(fast)
    assert type(fast[0]) is Conv2d
    assert type(fast[1]) is FoldedNorm
    return model, fast


CONVS = [
    dict(kernel_size=1),
    dict(kernel_size=1, stride=2, bias=False),
    dict(kernel_size=3, padding=1, bias=False),
    dict(kernel_size=3, padding=2, dilation=2, groups=2),
    dict(kernel_size=(1, 3), padding=(0, 1)),
    dict(kernel_size=3, padding="same"),
    dict(kernel_size=3, padding=1, padding_mode="reflect"),
]


@pytest.mark.parametrize("kwargs", CONVS)
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("mode", ["training", "frozen norm", "evaluation"])
def test_equals_the_two_modules(kwargs, batch, mode):
    model, fast = stage(**kwargs)
    x = torch.randn(batch, 4, 9, 8)
    results = []
    for each in (model, fast):
        each.train(mode != "evaluation")
        if mode == "frozen norm":
            each[1].eval().requires_grad_(False)
        image = x.clone().requires_grad_(True)
        y = each(image)
        torch.manual_seed(1)
        (y * torch.randn_like(y.contiguous())).sum().backward()
        with torch.no_grad():
            later = [each.eval()(x), each(x[..., :7, :6])]
        gradients = [image.grad, *(p.grad for p in each.parameters() if p.requires_grad)]
        results.append([y, *gradients, *each.buffers(), *later])
    for a, b in zip(*results, strict=True):
        # The sum over 200 pixels that a norm makes zero is so but for rounding.
        torch.testing.assert_close(a, b, rtol=1e-4, atol=5e-5)


def test_new_weights_are_seen():
    model, fast = stage(kernel_size=3)
    x = torch.randn(1, 4, 9, 8)

    @torch.no_grad()
    def same():
        torch.testing.assert_close(fast.eval()(x), model.eval()(x))

    same()
    with torch.no_grad():
        model[1].running_var.mul_(3)
        model[0].weight.mul_(2)
    fast.load_state_dict(model.state_dict())
    same()
    model[1].bias.data, fast[1].bias.data = fast[1].bias.data + 1, model[1].bias.data + 1
    same()
    # What mmengine's EMAHook and others do; the sum of all is as before.
    for module, name, axis in (0, "weight", 0), (0, "weight", 3), (1, "running_mean", 0):
        for each in (model, fast):
            data = getattr(each[module], name).data
            data.copy_(data.flip(axis))
        same()
    for each in (model, fast):
        each.train()(x)
    with torch.no_grad():
        torch.testing.assert_close(fast(x), model(x))
    same()
    x = x.double()
    model.double(), fast.double()
    same()


def test_a_copy_does_each_for_itself_and_can_be_made_fast():
    model, fast = stage(kernel_size=3)
    x = torch.randn(1, 4, 9, 8)
    with torch.no_grad():
        expected = model.eval()(x)
        fast.eval()(x)
        other, alone = copy.deepcopy(fast), copy.deepcopy(fast[0])
        loaded = pickle.loads(pickle.dumps(fast))
        torch.testing.assert_close(alone(x), model[0](x))
        for each in (other, loaded):
            assert list(each.state_dict()) == list(model.state_dict())
            torch.testing.assert_close(each(x), expected)
            speed_up(each)
            torch.testing.assert_close(each(x), expected)
            torch.testing.assert_close(each[0](x), fast[0](x))  # normalised already


@pytest.mark.parametrize("place", [0, 1])
def test_modules_that_are_replaced_later(place):
    model, fast = stage(kernel_size=3)
    x = torch.randn(1, 4, 9, 8)
    new = (nn.Conv2d(4, 6, 1), nn.BatchNorm2d(6, affine=False).eval())[place]
    with torch.no_grad():
        for each in (model, fast):
            each.eval()(x)
            each[place] = new
        torch.testing.assert_close(fast(x), model(x))


@pytest.mark.parametrize("function", [fuse_conv_bn, nn.SyncBatchNorm.convert_sync_batchnorm])
def test_norms_that_others_fuse_or_convert(function):
    model, fast = stage(kernel_size=3)
    x = torch.randn(1, 4, 9, 8)
    with torch.no_grad():
        fast.eval()(x)
        torch.testing.assert_close(function(fast)(x), model.eval()(x))


def test_shared_modules_are_not_folded():
    conv, norm = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
    norms = [nn.BatchNorm2d(4), nn.BatchNorm2d(4), norm]
    for number, each in enumerate(norms, 1):
        each.running_mean.fill_(number / 3)
    model = nn.Sequential(
        nn.Sequential(conv, norms[0]),
        nn.Sequential(conv, norms[1]),
        nn.Sequential(nn.Conv2d(4, 4, 1), norm),
        norm,
    ).eval()
    x = torch.randn(1, 4, 9, 8)
    expected = model(x)
    speed_up(model)
    torch.testing.assert_close(model(x), expected)


def test_one_image_without_its_batch():
    model, fast = stage(kernel_size=3)
    x = torch.randn(4, 9, 8)
    torch.testing.assert_close(fast[0].train()(x), model[0](x))


@pytest.mark.parametrize("shape", [(1, 5, 9, 8), (1, 4, 2, 2)])
def test_sizes_that_do_not_fit_are_named(shape):
    model, fast = stage(kernel_size=3)
    messages = []
    for each in (model, fast):
        with torch.no_grad(), pytest.raises(RuntimeError) as raised:
            each.eval()(torch.randn(shape))
        messages.append(str(raised.value))
    assert messages[0] == messages[1]


def test_a_trace_has_torchs_own():
    model, fast = stage(kernel_size=3)
    x = torch.randn(1, 4, 9, 8)
    with torch.no_grad():
        traced = torch.jit.trace(fast.eval(), x)
        torch.testing.assert_close(traced(x), model.eval()(x))
    assert "aten::_convolution" in str(traced.inlined_graph)


def test_threads_with_images_of_other_sizes():
    model, fast = stage(kernel_size=3)
    images = [torch.randn(1, 4, h, 30 - h) for h in (5, 8, 12, 20)]

    @torch.no_grad()
    def run(each, first):
        return [each(images[(first + i) % 4]) for i in range(200)]

    model.eval(), fast.eval()
    with ThreadPoolExecutor(3) as pool:
        results = list(pool.map(partial(run, fast), range(3)))
    for first, found in enumerate(results):
        torch.testing.assert_close(found, run(model, first))


def test_norm_without_statistics_or_affine_numbers():
    x = torch.randn(3, 4, 9, 8)
    for kwargs in (dict(track_running_stats=False), dict(affine=False)):
        model = nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6, **kwargs)).eval()
        fast = copy.deepcopy(model)
        speed_up(fast)
        torch.testing.assert_close(fast(x), model(x), rtol=1e-4, atol=1e-5)


def test_an_order_that_is_not_known_is_left_alone():
    class NormFirst(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)

        def forward(self, x):
            return self.conv(self.norm(x))

    model = NormFirst().eval()
    model.norm.running_mean.fill_(2)
    x = torch.randn(1, 4, 5, 5)
    expected = model(x)
    speed_up(model)
    torch.testing.assert_close(model(x), expected)


def test_fold_for_good():
    model, fast = stage(kernel_size=3, bias=False)
    fast.eval()[0].fold()
    x = torch.randn(1, 4, 9, 8)
    torch.testing.assert_close(fast(x), model.eval()(x))
    assert fast[0].bias.shape == (6,)


def test_under_inference_mode():
    with torch.inference_mode():
        model, fast = stage(kernel_size=3)
        x = torch.randn(1, 4, 9, 8)
        torch.testing.assert_close(fast.eval()(x), model.eval()(x))
