_base_ = "ddetr_r50_50e_refine.py"
model = dict(as_two_stage=True)
