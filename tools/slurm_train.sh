#!/usr/bin/env bash
# Train with Slurm, one process a GPU; GPUS (8), GPUS_PER_NODE, CPUS_PER_TASK (5) and SRUN_ARGS may be set.
source "$(dirname "$0")/launch.sh"
usage $# 4 "PARTITION JOB_NAME CONFIG WORK_DIR [arguments of tools/train.py]"
with_slurm "$1" "$2" train.py "$3" --work-dir "$4" --launcher slurm "${@:5}"
