#!/bin/sh
# Test on several GPUs, or on a CPU in several processes.
# More machines: the same on each with NNODES, NODE_RANK, MASTER_ADDR and PORT set.
. "$(dirname "$0")/launch.sh"
usage $# 3 "CONFIG CHECKPOINT NUM_PROCS [arguments of tools/test.py]"
config=$1
checkpoint=$2
num_procs=$3
shift 3
in_processes "$num_procs" test.py "$config" "$checkpoint" --launcher pytorch "$@"
