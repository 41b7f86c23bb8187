# C5 alone, at the resolution of C4 (official results, "single scale, DC5").
_base_ = "ddetr_r50_50e_single_scale.py"
model = dict(backbone=dict(type="ResNetDC5"))
