# The drawings of tools/dataset_converters/draw_shapes.py, learnt from scratch on two CPU cores in minutes.
_base_ = "../ddetr_r18_custom.py"

data_root = "data/shapes/"
classes = ("circle", "square", "triangle")
max_epochs = 10
val_interval = 10
batch_size = 8
num_workers = 0
lr = 1e-3
warmup_iters = 50
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackDetInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="PackDetInputs", meta_keys=("img_id", "img_path", "ori_shape", "img_shape")),
]

# For who reads this file with mmengine alone, which leaves inherited values where they are used.
model = dict(num_queries=60, bbox_head=dict(num_classes=len(classes)))
dataset = dict(data_root=data_root, metainfo=dict(classes=classes))
train_dataloader = dict(
    batch_size=batch_size, num_workers=num_workers, dataset=dict(dataset, pipeline=train_pipeline)
)
val_dataloader = dict(num_workers=num_workers, dataset=dict(dataset, pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + "annotations/val.json")
test_evaluator = val_evaluator
optim_wrapper = dict(optimizer=dict(lr=lr))
auto_scale_lr = dict(base_batch_size=8)
param_scheduler = [
    dict(_base_.param_scheduler[0], end=warmup_iters),
    dict(_base_.param_scheduler[1], T_max=max_epochs),
]
train_cfg = dict(max_epochs=max_epochs, val_interval=val_interval)
