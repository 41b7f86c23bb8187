# mmdet's Mask R-CNN on DAT-T (Xia et al., CVPR 2022), trained as Swin Transformer is there:
# 12 epochs, 8 processes x 2 images. Its RoIAlign and NMS need the full mmcv, see docs/model_zoo.md; for the
# weights of the backbone see ddetr_dat_t_50e.py.
_base_ = [
    "mmdet::_base_/models/mask-rcnn_r50_fpn.py",
    "mmdet::_base_/datasets/coco_instance.py",
    "../_base_/schedules/dat_1x.py",
    "../_base_/default_runtime.py",
]
custom_imports = dict(imports=["projects.reliable_runner", "projects.dat"])

model = dict(
    backbone=dict(
        _delete_=True,
        _scope_="projects.deformable_detr",
        type="DAT",  # DAT-T is what it is by default
        drop_path_rate=0.2,
        init_cfg=dict(type="Pretrained", checkpoint="dat://checkpoints/dat_tiny_in1k_224.pth"),
    ),
    neck=dict(in_channels=[96, 192, 384, 768]),
)
batch_size = 2
train_dataloader = dict(batch_size=batch_size)
