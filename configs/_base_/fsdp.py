# Parameters, gradients and optimizer state in shares over the processes; see docs/distributed.md.
runner_type = "FlexibleRunner"
strategy = dict(type="FSDPStrategy")
