# mmdet's DETR (Carion et al., ECCV 2020), the baseline of the paper's table 1 (there for 50 and 500 epochs).
_base_ = "mmdet::detr/detr_r50_8xb2-150e_coco.py"

# What ../_base_/default_runtime.py says beside mmdet's own; two bases may not share a key.
default_scope = "projects.deformable_detr"
custom_imports = dict(imports=["projects.reliable_runner"])
default_hooks = dict(dataset_report=dict(type="DatasetReportHook"))
custom_hooks = []
randomness = dict(seed=None)

# mmdet's classes, also where we have some of the same name.
model = dict(_scope_="mmdet", type="mmdet.DETR", train_cfg=dict(assigner=dict(_scope_="mmdet")))

# Images without objects are trained on, as in ../_base_/datasets/coco_detection.py.
batch_size = 2
lr = 1e-4
train_dataloader = dict(
    batch_size=batch_size,
    persistent_workers=False,
    dataset=dict(filter_cfg=dict(_delete_=True, filter_empty_gt=False)),
)
optim_wrapper = dict(optimizer=dict(lr=lr))
val_dataloader = dict(persistent_workers=False)
test_dataloader = val_dataloader
