# Training pipelines to choose from; see docs/custom_data.md.
augmentation_scale = (320, 240)  # (longer side, shorter side)

load = [dict(type="LoadImageFromFile"), dict(type="LoadAnnotations", with_bbox=True)]
pack = [dict(type="PackDetInputs")]
resize = dict(type="Resize", scale=augmentation_scale, keep_ratio=True)
jitter = dict(type="RandomResize", scale=augmentation_scale, ratio_range=(0.8, 1.2), keep_ratio=True)
wide_jitter = dict(jitter, ratio_range=(0.5, 2.0))
crop = dict(type="RandomCrop", crop_size=augmentation_scale[::-1], allow_negative_crop=True)

# Nothing is changed: for a first look, or where each pixel means something.
no_augmentation = [*load, resize, *pack]
# Photographs, in which up and down mean something.
light_augmentation = [*load, dict(type="RandomFlip", prob=0.5), jitter, *pack]
# From above or through a microscope: any direction is up.
aerial_augmentation = [
    *load,
    dict(type="RandomFlip", prob=[0.25, 0.25, 0.25], direction=["horizontal", "vertical", "diagonal"]),
    jitter,
    dict(type="PhotoMetricDistortion"),
    *pack,
]
# Few images, long training: sizes from half to twice, cut out, colours changed.
strong_augmentation = [
    *load,
    dict(type="RandomFlip", prob=0.5),
    wide_jitter,
    crop,
    dict(type="PhotoMetricDistortion"),
    *pack,
]
