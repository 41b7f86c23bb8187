_base_ = [
    "_base_/models/ddetr_r50.py",
    "_base_/datasets/coco_detection.py",
    "_base_/schedules/ddetr_50e.py",
    "_base_/default_runtime.py",
]
model = dict(bbox_head=dict(num_classes=len(_base_.classes)))
