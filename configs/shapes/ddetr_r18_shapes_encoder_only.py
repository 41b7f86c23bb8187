# No decoder: each token of the encoder predicts one box; see docs/convergence.md.
_base_ = "ddetr_r18_shapes.py"
model = dict(decoder=None)
