#!/bin/sh
# Train on several GPUs, or on a CPU in several processes.
# More machines: the same on each with NNODES, NODE_RANK, MASTER_ADDR and PORT set.
. "$(dirname "$0")/launch.sh"
usage $# 2 "CONFIG NUM_PROCS [arguments of tools/train.py]"
config=$1
num_procs=$2
shift 2
in_processes "$num_procs" train.py "$config" --launcher pytorch "$@"
