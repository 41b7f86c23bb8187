# What the launch scripts share; they source it. Any POSIX shell does: `sh tools/dist_train.sh` is common.
# PYTHON chooses the Python; else it is that of the active environment, or of .venv beside tools/.
# conda's base is active in every shell, and counts as none.
set -e
TOOLS=$(dirname "$0")
if [ -z "$PYTHON" ]; then
    PYTHON=$(command -v python || command -v python3 || echo python)
    active=$VIRTUAL_ENV
    if [ "$CONDA_DEFAULT_ENV" != base ]; then
        active=$active$CONDA_PREFIX
    fi
    if [ -z "$active" ] && [ -x "$TOOLS/../.venv/bin/python" ]; then
        PYTHON=$TOOLS/../.venv/bin/python
    fi
fi

# usage NUM_ARGS NUM_WANTED TEXT
usage() {
    if [ "$1" -lt "$2" ]; then
        echo "usage: $0 $3" >&2
        exit 2
    fi
}

# in_processes NUM_PROCS TOOL ARGS...: on this machine, one of NNODES
in_processes() {
    case $1 in
    '' | 0 | *[!0-9]*)
        echo "$0: the number of processes is $1, which is no positive integer" >&2
        exit 2
        ;;
    esac
    num_procs=$1
    tool=$2
    shift 2
    exec "$PYTHON" -m torch.distributed.run \
        --nnodes="${NNODES:-1}" \
        --node_rank="${NODE_RANK:-0}" \
        --master_addr="${MASTER_ADDR:-127.0.0.1}" \
        --master_port="${PORT:-29500}" \
        --nproc_per_node="$num_procs" \
        "$TOOLS/$tool" "$@"
}

# with_slurm PARTITION JOB_NAME TOOL ARGS...: one process a GPU
with_slurm() {
    GPUS=${GPUS:-8}
    GPUS_PER_NODE=${GPUS_PER_NODE:-$((GPUS < 8 ? GPUS : 8))}
    partition=$1
    job=$2
    tool=$3
    shift 3
    # shellcheck disable=SC2086  # SRUN_ARGS holds several
    exec srun --partition="$partition" \
        --job-name="$job" \
        --gres="gpu:$GPUS_PER_NODE" \
        --ntasks="$GPUS" \
        --ntasks-per-node="$GPUS_PER_NODE" \
        --cpus-per-task="${CPUS_PER_TASK:-5}" \
        --kill-on-bad-exit=1 \
        $SRUN_ARGS \
        "$PYTHON" -u "$TOOLS/$tool" "$@"
}
