"""The losses on the validation set, by hand and by the hook."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner

from projects.deformable_detr.registry import MODELS, SCOPE
from projects.reliable_runner.errors import InputError
from projects.reliable_runner.training.val_loss import ValLossHook

CONFIG = Path(__file__).resolve().parents[2] / "tiny_ddetr.py"


@pytest.fixture
def cfg(shapes_root, monkeypatch) -> Config:
    """The tiny model; its validation images are 48 pixels wide, the originals 64."""
    monkeypatch.setenv("SHAPES_ROOT", str(shapes_root))
    cfg = Config.fromfile(CONFIG)
    cfg.val_dataloader.dataset.pipeline[1].scale = (48, 48)
    return cfg


def run_hook(cfg: Config, model: torch.nn.Module) -> dict[str, float]:
    """What `ValLossHook` adds to the metrics of a validation."""
    with_scope = dict(cfg.val_dataloader, dataset=dict(cfg.val_dataloader.dataset, _scope_=SCOPE))
    loader = Runner.build_dataloader(with_scope, seed=0)
    loop = SimpleNamespace(dataloader=loader)
    runner, metrics, hook = SimpleNamespace(model=model, val_loop=loop), {"coco/AP": 0.5}, ValLossHook()
    for _ in range(2):  # the second validation forgets the first
        hook.before_val_epoch(runner)
        for index, batch in enumerate(loader):
            state = torch.get_rng_state()
            hook.after_val_iter(runner, index, batch)
            assert torch.equal(torch.get_rng_state(), state)
        hook.after_val_epoch(runner, metrics)
    return metrics


def test_is_the_mean_over_the_batches_and_changes_nothing(cfg):
    torch.manual_seed(0)
    model = MODELS.build(dict(cfg.model, _scope_=SCOPE)).eval()
    model.init_weights()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    metrics = run_hook(cfg, model)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(weight.grad is None for weight in model.parameters())

    # Boxes that are loaded before the images are resized need no help of ours.
    load, resize, boxes, pack = cfg.val_dataloader.dataset.pipeline
    dataset = dict(cfg.val_dataloader.dataset, pipeline=[load, boxes, resize, pack], _scope_=SCOPE)
    loader = Runner.build_dataloader(dict(cfg.val_dataloader, dataset=dataset), seed=0)
    losses = []
    with torch.no_grad():
        for batch in loader:
            data = model.data_preprocessor(batch)
            losses.append(model.loss(data["inputs"], data["data_samples"]))
    names = ("loss_cls", "loss_bbox", "loss_iou")
    means = {name: sum(loss[name].item() for loss in losses) / len(losses) for name in names}
    expected = {f"val/{name}": mean for name, mean in means.items()}
    expected |= {"val/loss": sum(means.values()), "coco/AP": 0.5}
    assert metrics == pytest.approx(expected, rel=1e-5)

    cfg.val_dataloader.dataset.pipeline = dataset["pipeline"]
    assert run_hook(cfg, model) == pytest.approx(expected, rel=1e-6)


def test_wants_boxes(cfg):
    del cfg.val_dataloader.dataset.pipeline[2]
    with pytest.raises(InputError, match="add dict.type='LoadAnnotations', with_bbox=True.*val_data"):
        run_hook(cfg, None)
