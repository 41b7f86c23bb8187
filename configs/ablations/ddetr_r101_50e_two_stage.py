# Paper, table 3: ResNet-101.
_base_ = "../ddetr_r50_50e_two_stage.py"
model = dict(backbone=dict(depth=101, init_cfg=dict(type="Pretrained", checkpoint="torchvision://resnet101")))
