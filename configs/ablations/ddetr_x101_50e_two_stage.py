# Paper, table 3: ResNeXt-101, of which it gives no width; 64x4d is what others compare with.
_base_ = "../ddetr_r50_50e_two_stage.py"
model = dict(
    backbone=dict(
        type="ResNeXt",
        depth=101,
        groups=64,
        base_width=4,
        init_cfg=dict(type="Pretrained", checkpoint="open-mmlab://resnext101_64x4d"),
    )
)
