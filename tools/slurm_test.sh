#!/bin/sh
# Test with Slurm, one process a GPU; GPUS (8), GPUS_PER_NODE, CPUS_PER_TASK (5) and SRUN_ARGS may be set.
. "$(dirname "$0")/launch.sh"
usage $# 4 "PARTITION JOB_NAME CONFIG CHECKPOINT [arguments of tools/test.py]"
partition=$1
job=$2
config=$3
checkpoint=$4
shift 4
with_slurm "$partition" "$job" test.py "$config" "$checkpoint" --launcher slurm "$@"
