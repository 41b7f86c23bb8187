"""Settings a class against the formula of the paper in float64."""

import pytest
import torch

from projects.deformable_detr.losses import FocalLoss
from projects.deformable_detr.matching.costs import FocalLossCost
from projects.deformable_detr.registry import MODELS

from .conftest import small_model_cfg

ALPHA, WEIGHT, GAMMA = [0.25, 0.6, 0.9], [1.0, 3.0, 0.5], 2.0


def focal_loss(logits, is_class, alpha, weight):
    p = logits.sigmoid()
    p_t = torch.where(is_class, p, 1 - p)
    alpha_t = torch.where(is_class, alpha, 1 - alpha)
    return -weight * alpha_t * (1 - p_t) ** GAMMA * p_t.log()


def test_each_class_has_its_weights():
    logits = torch.randn(2, 5, 3, dtype=torch.float64)
    is_class = torch.rand(2, 5, 3) > 0.5
    loss = FocalLoss(use_sigmoid=True, gamma=GAMMA, alpha=ALPHA, class_weight=WEIGHT, loss_weight=2.0)
    alpha, weight = torch.tensor(ALPHA), torch.tensor(WEIGHT)
    expected = 2 * focal_loss(logits, is_class, alpha.double(), weight.double())
    found = loss(logits, is_class.double(), reduction_override="none")
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)
    assert not loss.state_dict()


def head(**loss_cls):
    cfg = small_model_cfg(**{f"bbox_head.loss_cls.{key}": value for key, value in loss_cls.items()})
    return MODELS.build(cfg.bbox_head)


def test_the_encoders_only_class_has_the_weights_of_none():
    loss = head(alpha=ALPHA, class_weight=WEIGHT).enc_loss_cls
    assert loss.alpha == 0.25 and loss.class_weight is None


@pytest.mark.parametrize("key", ["alpha", "class_weight"])
def test_another_number_of_classes_is_refused(key):
    with pytest.raises(ValueError, match=f"loss_cls.{key} has 2 numbers for num_classes=3"):
        head(**{key: [0.5, 0.5]})


def test_the_matching_cost_has_one_alpha():
    with pytest.raises(ValueError, match="alpha of the cost must be one number"):
        FocalLossCost(alpha=[0.25, 0.5])


def test_settings_that_no_loss_takes():
    with pytest.raises(ValueError, match=r"alpha must lie in \[0, 1\]"):
        head(alpha=[0.25, 0.5, -2.0])
    pred, target = torch.randn(2, 3), torch.eye(2, 3)
    loss = FocalLoss(use_sigmoid=True)(pred, target)
    torch.testing.assert_close(FocalLoss(use_sigmoid=True, class_weight=2.0)(pred, target), 2 * loss)
