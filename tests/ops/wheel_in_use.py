"""Run where the wheel and torch are installed and nothing else: the op against its reference.

Run from a folder other than the repository's root; prints the versions and where the op was imported from.
"""

import sys
import warnings

for name in ("numpy", "scipy", "mmcv", "mmengine", "mmdet", "transformers", "projects"):
    sys.modules[name] = None  # to import it is an error

import torch  # noqa: E402

warnings.simplefilter("error")  # one says that the reference serves

import MultiScaleDeformableAttention  # noqa: E402, F401, before any other

import ms_deform_attn  # noqa: E402

shapes, starts = [(6, 4), (3, 5)], [0, 24]
value, locations, weights = torch.rand(2, 39, 2, 8), torch.rand(2, 5, 2, 2, 3, 2), torch.rand(2, 5, 2, 2, 3)
results = []
for function in (ms_deform_attn.ms_deform_attn, ms_deform_attn.ms_deform_attn_reference):
    inputs = [tensor.clone().requires_grad_() for tensor in (value, locations, weights)]
    output = function(inputs[0], shapes, starts, *inputs[1:])
    output.square().sum().backward()
    results.append([output.detach(), *(tensor.grad for tensor in inputs)])
for ours, theirs in zip(*results, strict=True):
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
module = ms_deform_attn.MSDeformAttn(8, 2, 1, 1)
module(torch.rand(1, 3, 8), torch.rand(1, 4, 8), torch.rand(1, 3, 1, 2), [(2, 2)], [0]).sum().backward()
print(f"torch {torch.__version__}, Python {sys.version.split()[0]}: {ms_deform_attn.__file__}")
