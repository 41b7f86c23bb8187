# Each process holds a share of the model: for models or images that do not fit one GPU otherwise.
_base_ = ["../ddetr_r50_50e.py", "../_base_/fsdp.py"]
