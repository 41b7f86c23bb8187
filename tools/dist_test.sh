#!/usr/bin/env bash
# Test on several GPUs, or on a CPU in several processes.
# More machines: the same on each with NNODES, NODE_RANK, MASTER_ADDR and PORT set.
source "$(dirname "$0")/launch.sh"
usage $# 3 "CONFIG CHECKPOINT NUM_PROCS [arguments of tools/test.py]"
in_processes "$3" test.py "$1" "$2" --launcher pytorch "${@:4}"
