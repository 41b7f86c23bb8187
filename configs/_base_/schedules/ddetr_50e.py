# Paper, section A.4, with the gradient clipping of the official code. 16 processes x 2 images = 32.
lr = 2e-4
max_epochs = 50
optim_wrapper = dict(
    type="OptimWrapper",
    constructor="GroupedOptimWrapperConstructor",
    optimizer=dict(type="AdamW", lr=lr, weight_decay=1e-4, fused=True),
    clip_grad=dict(max_norm=0.1, norm_type=2),
    paramwise_cfg=dict(
        custom_keys={
            "backbone": dict(lr_mult=0.1),
            "sampling_offsets": dict(lr_mult=0.1),
            "reference_points": dict(lr_mult=0.1),
        }
    ),
)
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=max_epochs, val_interval=1)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
param_scheduler = [
    dict(
        type="MultiStepLR",
        begin=0,
        end=max_epochs,
        by_epoch=True,
        milestones=[max_epochs * 4 // 5],
        gamma=0.1,
    )
]
auto_scale_lr = dict(enable=False, base_batch_size=32)
