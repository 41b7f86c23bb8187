# DAT-T (Xia et al., CVPR 2022) in the place of ResNet-50; width, depths, heads and groups are those of
# the paper, table 1. The ImageNet weights are linked in the README of github.com/LeapLabTHU/DAT at 42b489e:
# download them to checkpoints/, or do without: --cfg-options model.backbone.init_cfg=None
_base_ = "../ddetr_r50_50e.py"
custom_imports = dict(imports=["projects.reliable_runner", "projects.dat"])

model = dict(
    backbone=dict(
        _delete_=True,
        type="DAT",
        embed_dims=96,
        stages=("LS", "LS", "LD" * 3, "LD"),
        num_heads=(3, 6, 12, 24),
        num_groups=(1, 1, 3, 6),
        window_size=7,
        strides=(1, 1, 1, 1),
        kernel_sizes=(9, 7, 5, 3),
        offset_range_factors=(2, 2, 2, 2),
        drop_path_rate=0.2,
        out_indices=(1, 2, 3),
        init_cfg=dict(type="Pretrained", checkpoint="dat://checkpoints/dat_tiny_in1k_224.pth"),
    ),
    neck=dict(in_channels=[192, 384, 768]),
)
