# DETR as mmdet has it, the baseline of the paper's table 1 (there for 50 and 500 epochs).
_base_ = [
    "../_base_/models/detr_r50.py",
    "../_base_/datasets/coco_detection.py",
    "../_base_/schedules/detr_150e.py",
    "../_base_/default_runtime.py",
]

train_pipeline = [
    dict(type="LoadImageFromFile", backend_args=_base_.backend_args),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="RandomFlip", prob=0.5),
    dict(
        type="RandomChoice",
        transforms=[
            [_base_.random_resize],
            [
                dict(
                    type="RandomChoiceResize",
                    scales=[(400, 1333), (500, 1333), (600, 1333)],
                    keep_ratio=True,
                ),
                dict(
                    type="RandomCrop",
                    crop_type="absolute_range",
                    crop_size=(384, 600),
                    allow_negative_crop=True,
                ),
                _base_.random_resize,
            ],
        ],
    ),
    dict(type="PackDetInputs"),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
