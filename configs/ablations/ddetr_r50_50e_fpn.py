# Paper, table 2: an FPN before the encoder. C6 comes from C5, as in the other configs.
_base_ = "../ddetr_r50_50e.py"
model = dict(
    neck=dict(
        _delete_=True,
        type="FPN",
        in_channels=[512, 1024, 2048],
        out_channels=256,
        add_extra_convs="on_input",
        norm_cfg=dict(type="GN", num_groups=32),
        num_outs=4,
    )
)
