default_scope = "projects.deformable_detr"
custom_imports = dict(imports=["projects.reliable_runner"])

# mmengine's own hooks and those of reliable_runner need not be listed.
default_hooks = dict(
    logger=dict(type="LoggerHook", interval=50),
    checkpoint=dict(type="CheckpointHook", interval=1),
    # By its path: a config that sets custom_imports replaces the list above.
    dataset_report=dict(type="projects.dataset_report.hook.DatasetReportHook"),
    visualization=dict(type="DetVisualizationHook"),
)
custom_hooks = []

env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method="fork", opencv_num_threads=0),
    dist_cfg=dict(backend="nccl"),
)
randomness = dict(seed=None)

# For TensorBoard a config that inherits this says
# visualizer = dict(vis_backends=[dict(type="LocalVisBackend"), dict(type="TensorboardVisBackend")])
vis_backends = [dict(type="LocalVisBackend")]
visualizer = dict(type="DetLocalVisualizer", vis_backends=vis_backends, name="visualizer")

log_processor = dict(type="LogProcessor", window_size=50, by_epoch=True)
log_level = "INFO"
load_from = None
resume = False
