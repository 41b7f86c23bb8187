# Parameters, gradients and optimizer state in shares over the processes; see docs/distributed.md.
runner_type = "FlexibleRunner"
# mmengine builds the strategy before it knows the default scope.
strategy = dict(type="FSDPStrategy", _scope_="projects.deformable_detr")
