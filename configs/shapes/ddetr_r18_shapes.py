# Two-stage Deformable DETR without DINO's pieces.
_base_ = "dino_r18_shapes.py"
model = dict(
    denoising=None,
    queries=None,
    decoder=dict(embed_references=False, look_forward_twice=False, post_norm_cfg=None),
)
