# A small data set of your own, as in ddetr_r18_custom.py, with DINO's three pieces; see docs/results.md.
_base_ = "ddetr_r18_custom.py"

model = dict(
    queries=dict(type="MixedQueries"),
    decoder=dict(embed_references=True, look_forward_twice=True, post_norm_cfg=dict(type="LN")),
)
