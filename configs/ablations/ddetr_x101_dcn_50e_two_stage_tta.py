# Paper, table 3: the last row, tested on several scales and flipped. Training and validation are as before.
_base_ = "ddetr_x101_dcn_50e_two_stage.py"

tta_model = dict(type="DetTTAModel", tta_cfg=dict(nms=dict(type="nms", iou_threshold=0.5), max_per_img=100))
custom_hooks = [dict(type="PrepareTTAHook", tta_cfg=tta_model)]

# The paper names no scales; these are MMDetection's.
scales = [(666, 400), (1333, 800), (2000, 1200)]
tta_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(
        type="TestTimeAug",
        transforms=[
            [dict(type="Resize", scale=scale, keep_ratio=True) for scale in scales],
            [dict(type="RandomFlip", prob=0.0), dict(type="RandomFlip", prob=1.0)],
            [dict(type="LoadAnnotations", with_bbox=True)],
            [
                dict(
                    type="PackDetInputs",
                    meta_keys=(
                        "img_id",
                        "img_path",
                        "ori_shape",
                        "img_shape",
                        "scale_factor",
                        "flip",
                        "flip_direction",
                    ),
                )
            ],
        ],
    ),
]
test_dataloader = dict(dataset=dict(pipeline=tta_pipeline))
