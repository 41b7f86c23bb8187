# DETR on C5 at its own stride of 32.
_base_ = "detr_r18_shapes.py"
model = dict(backbone=dict(strides=(1, 2, 2, 2), dilations=(1, 1, 1, 1)))
