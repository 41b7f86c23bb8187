# DINO (Zhang et al., ICLR 2023, arXiv 2203.03605), table 1, with the settings of mmdet's
# dino-4scale_r50_8xb2-12e_coco. 8 processes x 2 images = 16.
_base_ = "ddetr_r50_50e_two_stage.py"

lr = 1e-4
max_epochs = 12

no_dropout = dict(dropout=0.0)
ffn = dict(feedforward_channels=2048, ffn_drop=0.0)
model = dict(
    num_queries=900,
    queries=dict(type="MixedQueries"),
    denoising=dict(
        type="ContrastiveDenoising", num_dn_queries=100, label_noise_scale=0.5, box_noise_scale=1.0
    ),
    positional_encoding=dict(offset=0.0, temperature=20),
    encoder=dict(layer_cfg=dict(self_attn_cfg=no_dropout, ffn_cfg=ffn)),
    decoder=dict(
        embed_references=True,
        look_forward_twice=True,
        refine_eps=1e-3,
        post_norm_cfg=dict(type="LN"),
        layer_cfg=dict(self_attn_cfg=no_dropout, cross_attn_cfg=no_dropout, ffn_cfg=ffn),
    ),
    bbox_head=dict(loss_cls=dict(loss_weight=1.0)),
    test_cfg=dict(max_per_img=300),
)
optim_wrapper = dict(
    optimizer=dict(lr=lr), paramwise_cfg=dict(custom_keys=dict(_delete_=True, backbone=dict(lr_mult=0.1)))
)
train_cfg = dict(max_epochs=max_epochs)
param_scheduler = [
    dict(type="MultiStepLR", begin=0, end=max_epochs, by_epoch=True, milestones=[11], gamma=0.1)
]
auto_scale_lr = dict(base_batch_size=16)
