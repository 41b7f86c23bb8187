# Paper, table 2: a BiFPN before the encoder.
_base_ = "../ddetr_r50_50e.py"
model = dict(neck=dict(type="BiFPN", num_layers=3))
