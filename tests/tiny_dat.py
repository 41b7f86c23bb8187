"""As tiny_ddetr.py with DAT as the backbone: two deformable blocks, of 4 x 4 and 2 x 2 tokens."""

_base_ = "tiny_ddetr.py"
custom_imports = dict(imports=["projects.dat"])

model = dict(
    backbone=dict(
        _delete_=True,
        type="DAT",
        embed_dims=8,
        stages=("L", "S", "LD", "D"),
        num_heads=(1, 2, 4, 4),
        num_groups=(1, 1, 2, 4),
        window_size=4,
        pretrain_img_size=64,
        out_indices=(2, 3),
    ),
)
