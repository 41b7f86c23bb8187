# The drawn data set, learnt from scratch with a small DAT where ddetr_r18_shapes.py has a ResNet-18.
# The maps of its images of 128 pixels are whole windows.
_base_ = "ddetr_r18_shapes.py"
custom_imports = dict(imports=["projects.reliable_runner", "projects.dat"])

model = dict(
    backbone=dict(
        _delete_=True,
        type="DAT",
        embed_dims=32,
        stages=("LS", "LS", "LDLD", "LD"),
        num_heads=(1, 2, 4, 8),
        num_groups=(1, 1, 2, 4),
        window_size=4,
        pretrain_img_size=128,
        out_indices=(1, 2, 3),
    )
)
