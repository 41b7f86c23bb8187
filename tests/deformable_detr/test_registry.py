"""Names resolve to ours first, then to mmdet's, then to mmengine's."""

import mmdet.registry
import pytest
from mmengine.hooks import IterTimerHook
from mmengine.registry import MODELS as ROOT_MODELS
from mmengine.registry import DefaultScope, Registry

from projects.deformable_detr import registry

OURS = "projects.deformable_detr"


def test_each_registry_of_mmdet_has_a_child():
    def registries(module):
        return {k for k, v in vars(module).items() if isinstance(v, Registry) and k.isupper()}

    theirs = {name for name in registries(mmdet.registry) if not name.startswith("MMENGINE")}
    assert theirs and theirs == registries(registry)
    for name in theirs:
        assert getattr(registry, name).parent is getattr(mmdet.registry, name)


@pytest.mark.parametrize(
    "name", ["DeformableDETR", "DeformableDETRHead", "ChannelMapper", "MultiheadAttention", "ResNet"]
)
def test_our_modules_come_first(name):
    assert registry.MODELS.get(name).__module__.startswith(OURS)


def test_scope_of_a_config_leads_from_the_root_to_us():
    with DefaultScope.overwrite_default_scope(OURS):
        head = ROOT_MODELS.build(
            dict(type="DeformableDETRHead", num_classes=3, embed_dims=8, num_pred_layer=1)
        )
        backbone = ROOT_MODELS.build(dict(type="MobileNetV2"))
    assert type(head).__module__.startswith(OURS)
    assert type(backbone).__module__.startswith("mmdet")


def test_mmdets_and_mmengines_names_are_found():
    assert registry.HOOKS.get("TrackVisualizationHook").__module__.startswith("mmdet")
    assert registry.HOOKS.get("IterTimerHook") is IterTimerHook
    assert registry.MODELS.get("mmdet.DeformableDETR").__module__.startswith("mmdet")
