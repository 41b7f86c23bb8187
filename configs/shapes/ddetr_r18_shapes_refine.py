_base_ = "ddetr_r18_shapes.py"
model = dict(as_two_stage=False)
