#!/usr/bin/env bash
# Test with Slurm, one process a GPU; GPUS (8), GPUS_PER_NODE, CPUS_PER_TASK (5) and SRUN_ARGS may be set.
source "$(dirname "$0")/launch.sh"
usage $# 4 "PARTITION JOB_NAME CONFIG CHECKPOINT [arguments of tools/test.py]"
with_slurm "$1" "$2" test.py "$3" "$4" --launcher slurm "${@:5}"
