# Paper, table 3: ResNeXt-101 with DCN v2 in C3 to C5. Needs the full mmcv, see docs/model_zoo.md.
_base_ = "ddetr_x101_50e_two_stage.py"
model = dict(
    backbone=dict(
        dcn=dict(type="DCNv2", deform_groups=1, fallback_on_stride=False),
        stage_with_dcn=(False, True, True, True),
    )
)
