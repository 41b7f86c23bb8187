"""``randomness=dict(seed=0, deterministic=True)`` makes two runs equal to the bit."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from torch.utils._python_dispatch import TorchDispatchMode

from projects.deformable_detr.registry import DATASETS, MODELS, SCOPE
from projects.reliable_runner.launcher import build_runner

REPO = Path(__file__).resolve().parents[2]
CONFIG = REPO / "tests" / "tiny_ddetr.py"
pytestmark = pytest.mark.usefixtures("small_run", "settings")

# What raises on CUDA in deterministic mode, says the documentation of torch 2.13 for
# torch.use_deterministic_algorithms, as far as a detector could call it. A cumsum raises if it sums floats.
RAISES_ON_CUDA = {
    "grid_sampler_2d_backward",
    "upsample_linear1d_backward",
    "upsample_bilinear2d_backward",
    "upsample_bicubic2d_backward",
    "_adaptive_avg_pool2d_backward",
    "adaptive_max_pool2d_backward",
    "reflection_pad2d_backward",
    "nll_loss_forward",
    "nll_loss2d_forward",
    "histc",
    "bincount",
    "put_",
    "median",
    "kthvalue",
}


@pytest.fixture
def settings(monkeypatch) -> Iterator[None]:
    """Torch's settings go back to what they were."""
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.deterministic
    yield
    torch.use_deterministic_algorithms(before[0])
    torch.backends.cudnn.deterministic = before[1]


def weights(tool: Callable, work_dir: Path, num_workers: int) -> dict[str, torch.Tensor]:
    """Of a model that has trained one epoch."""
    options = dict.fromkeys(("val_cfg", "val_dataloader", "val_evaluator"))
    options |= {"randomness.seed": 0, "randomness.deterministic": True, "train_cfg.max_epochs": 1}
    options["train_dataloader.batch_size"] = 4
    tool("train", CONFIG, "--work-dir", work_dir, **options, **{"train_dataloader.num_workers": num_workers})
    return torch.load(work_dir / "epoch_1.pth", weights_only=False)["state_dict"]


def test_repeats(tool, tmp_path):
    num_workers = (2, 2) if torch.cuda.is_available() else (0, 2)
    torch.set_num_threads(2)
    first, second = (weights(tool, tmp_path / f"run{i}", n) for i, n in enumerate(num_workers))
    assert torch.are_deterministic_algorithms_enabled()
    assert torch.backends.cudnn.deterministic
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    for key, weight in first.items():
        assert torch.equal(weight, second[key]), key


@pytest.mark.parametrize("deterministic", [True, False])
def test_cublas_is_told_before_the_runner_is_built(monkeypatch, deterministic):
    found = []

    def build(cfg: Config) -> SimpleNamespace:
        found.append(os.environ.get("CUBLAS_WORKSPACE_CONFIG"))
        return SimpleNamespace(model=torch.nn.Identity())

    monkeypatch.setattr(Runner, "from_cfg", build)
    cfg = Config(dict(launcher="none", randomness=dict(seed=0, deterministic=deterministic)))
    build_runner(cfg)
    assert found == [":4096:8" if deterministic else None]


class CalledOps(TorchDispatchMode):
    """Collects the names of the ops that are called; a cumsum of floats is `float_cumsum`."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name.split("::")[1]
        if name == "cumsum" and args[0].is_floating_point():
            name = "float_cumsum"
        self.names.add(name)
        return func(*args, **kwargs or {})


BIFPN = dict(type="BiFPN", in_channels=[32, 64], out_channels=32, num_layers=1, num_outs=2, _delete_=True)


@pytest.mark.parametrize(
    "options",
    [{}, dict(as_two_stage=True, with_box_refine=True), dict(decoder=None), dict(neck=BIFPN), "dino"],
    ids=["plain", "two-stage", "encoder-only", "bifpn", "dino"],
)
def test_calls_no_op_that_raises_on_cuda(options):
    init_default_scope(SCOPE)
    cfg = Config.fromfile(CONFIG)
    if options == "dino":
        cfg, options = Config.fromfile(CONFIG.with_name("tiny_dino.py")), {}
    cfg.merge_from_dict(dict(model=options))
    model = MODELS.build(dict(cfg.model, _scope_=SCOPE))
    model.init_weights()
    dataset = DATASETS.build(dict(cfg.train_dataloader.dataset, _scope_=SCOPE))
    samples = [dataset[0], dataset[1]]
    batch = {key: [sample[key] for sample in samples] for key in samples[0]}
    with CalledOps() as called:
        data = model.data_preprocessor(batch, True)
        sum(model.loss(data["inputs"], data["data_samples"]).values()).backward()
        model.eval().predict(data["inputs"], data["data_samples"])
    assert {"fused_backward", "convolution_backward", "cumsum"} <= called.names
    assert not called.names & (RAISES_ON_CUDA | {"float_cumsum"})
