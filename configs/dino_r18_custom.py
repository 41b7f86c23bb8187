# As ddetr_r18_custom.py, with DINO's other two pieces beside its denoising; see docs/results.md.
_base_ = "ddetr_r18_custom.py"

model = dict(
    queries=dict(type="MixedQueries"),
    decoder=dict(embed_references=True, look_forward_twice=True, post_norm_cfg=dict(type="LN")),
)
