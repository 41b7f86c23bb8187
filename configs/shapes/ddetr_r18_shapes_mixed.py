# Two-stage, but the encoder proposes the places of the queries alone: their contents are learnt.
_base_ = "ddetr_r18_shapes.py"
model = dict(queries=dict(_delete_=True, type="MixedQueries"), decoder=dict(embed_references=True))
