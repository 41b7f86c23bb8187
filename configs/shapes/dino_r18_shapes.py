# DINO: mixed queries, denoising, look forward twice.
_base_ = "ddetr_r18_shapes_mixed.py"
model = dict(
    denoising=dict(_delete_=True, type="ContrastiveDenoising", num_dn_queries=100),
    decoder=dict(look_forward_twice=True, post_norm_cfg=dict(type="LN")),
)
