"""Loops, hooks and optimisers of mmengine's Runner."""

from . import checkpoint_hook, early_stopping, fsdp, log_processor, optim_wrapper, parameter_groups, reproducibility, train_loop, val_loss
