# DETR on the drawn data set, as wide and deep as the model of ddetr_r18_shapes.py, and trained like it.
_base_ = "ddetr_r18_shapes.py"

attention = dict(embed_dims=128, num_heads=8, dropout=0.0, batch_first=True)
ffn = dict(embed_dims=128, feedforward_channels=512, ffn_drop=0.0)
model = dict(
    _delete_=True,
    _scope_="mmdet",  # all of it, also what we have under the same name
    type="mmdet.DETR",
    num_queries=60,
    data_preprocessor=_base_.model.data_preprocessor,
    backbone=dict(
        type="ResNet",
        depth=18,
        base_channels=32,
        out_indices=(3,),
        strides=(1, 2, 2, 1),  # C5 as fine as C4 ("DC5"): the images are small
        dilations=(1, 1, 1, 2),
        norm_eval=False,
        init_cfg=None,
    ),
    neck=dict(
        type="ChannelMapper",
        in_channels=[256],
        kernel_size=1,
        out_channels=128,
        act_cfg=None,
        norm_cfg=None,
        num_outs=1,
    ),
    positional_encoding=dict(num_feats=64, normalize=True),
    encoder=dict(num_layers=2, layer_cfg=dict(self_attn_cfg=attention, ffn_cfg=ffn)),
    decoder=dict(
        num_layers=3,
        layer_cfg=dict(self_attn_cfg=attention, cross_attn_cfg=attention, ffn_cfg=ffn),
        return_intermediate=True,
    ),
    bbox_head=dict(
        type="DETRHead",
        num_classes=3,
        embed_dims=128,
        loss_cls=dict(
            type="CrossEntropyLoss", bg_cls_weight=0.1, use_sigmoid=False, loss_weight=1.0, class_weight=1.0
        ),
        loss_bbox=dict(type="L1Loss", loss_weight=5.0),
        loss_iou=dict(type="GIoULoss", loss_weight=2.0),
    ),
    train_cfg=dict(
        assigner=dict(
            _scope_="mmdet",
            type="HungarianAssigner",
            match_costs=[
                dict(type="ClassificationCost", weight=1.0),
                dict(type="BBoxL1Cost", weight=5.0, box_format="xywh"),
                dict(type="IoUCost", iou_mode="giou", weight=2.0),
            ],
        )
    ),
    test_cfg=dict(max_per_img=60),  # mmdet's head takes one class a query
)

# mmdet's head divides by the scale factor, so there must be a resize, if by one.
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale_factor=1.0),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="PackDetInputs", meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")),
]
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

lr = 4e-4  # ends best of four; see The search in docs/convergence.md
optim_wrapper = dict(optimizer=dict(lr=lr))
