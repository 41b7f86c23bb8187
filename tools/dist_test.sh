#!/usr/bin/env bash
# Test on several GPUs, or on a CPU in several processes:
#   tools/dist_test.sh CONFIG CHECKPOINT NUM_PROCS [arguments of tools/test.py]
# More machines: the same on each with NNODES, NODE_RANK, MASTER_ADDR and PORT set.
set -e
if [ $# -lt 3 ]; then
    echo "usage: $0 CONFIG CHECKPOINT NUM_PROCS [arguments of tools/test.py]" >&2
    exit 2
fi

exec python -m torch.distributed.run \
    --nnodes="${NNODES:-1}" \
    --node_rank="${NODE_RANK:-0}" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" \
    --master_port="${PORT:-29500}" \
    --nproc_per_node="$3" \
    "$(dirname "$0")/test.py" "$1" "$2" --launcher pytorch "${@:4}"
