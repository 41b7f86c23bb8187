_base_ = "ddetr_r50_50e.py"
model = dict(with_box_refine=True)
