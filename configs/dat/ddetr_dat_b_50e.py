# DAT-B (Xia et al., CVPR 2022, table 1).
_base_ = "ddetr_dat_s_50e.py"
model = dict(
    backbone=dict(
        embed_dims=128,
        num_heads=(4, 8, 16, 32),
        num_groups=(1, 1, 4, 8),
        drop_path_rate=0.5,
        init_cfg=dict(checkpoint="dat://checkpoints/dat_base_in1k_224.pth"),
    ),
    neck=dict(in_channels=[256, 512, 1024]),
)
