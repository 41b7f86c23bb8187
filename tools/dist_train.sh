#!/usr/bin/env bash
# Train on several GPUs, or on a CPU in several processes.
# More machines: the same on each with NNODES, NODE_RANK, MASTER_ADDR and PORT set.
source "$(dirname "$0")/launch.sh"
usage $# 2 "CONFIG NUM_PROCS [arguments of tools/train.py]"
in_processes "$2" train.py "$1" --launcher pytorch "${@:3}"
