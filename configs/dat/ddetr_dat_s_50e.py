# DAT-S (Xia et al., CVPR 2022, table 1).
_base_ = "ddetr_dat_t_50e.py"
model = dict(
    backbone=dict(
        stages=("LS", "LS", "LD" * 9, "LD"),
        drop_path_rate=0.3,
        init_cfg=dict(checkpoint="dat://checkpoints/dat_small_in1k_224.pth"),
    )
)
