# Deformable DETR as it is, neither refined nor two-stage.
_base_ = "ddetr_r18_shapes_refine.py"
model = dict(with_box_refine=False)
