# Two-stage, and denoising queries beside the others in training.
_base_ = "ddetr_r18_shapes.py"
model = dict(denoising=dict(_delete_=True, type="ContrastiveDenoising", num_dn_queries=100))
