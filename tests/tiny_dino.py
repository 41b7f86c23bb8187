"""DINO of the size of tiny_ddetr.py."""

_base_ = "tiny_ddetr.py"

model = dict(
    with_box_refine=True,
    as_two_stage=True,
    queries=dict(type="MixedQueries"),
    denoising=dict(type="ContrastiveDenoising", num_dn_queries=20),
    decoder=dict(num_layers=2, embed_references=True, look_forward_twice=True, post_norm_cfg=dict(type="LN")),
)
