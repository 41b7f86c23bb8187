# No decoder: each token of the encoder predicts one box; see docs/convergence.md.
_base_ = "../ddetr_r50_50e_two_stage.py"
model = dict(decoder=None)
