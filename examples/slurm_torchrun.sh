#!/bin/bash
# One large model on two nodes with four GPUs each, by torchrun:
#
#     sbatch examples/slurm_torchrun.sh paper runs/paper
#
# Every process takes its share of each step's rows; rank 0 alone writes and measures. All nodes
# must see the directory. The job asks to be queued again two minutes before its time is up, and
# resumes from the last checkpoint, on as many GPUs as it is given then.
#SBATCH --job-name=tasklens
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32
#SBATCH --time=08:00:00
#SBATCH --requeue
#SBATCH --signal=B:USR1@120
#SBATCH --open-mode=append
set -u

again() {
  scontrol requeue "$SLURM_JOB_ID"
}
trap again USR1

first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
source=$1
out=$2
shift 2

srun torchrun --nnodes="$SLURM_JOB_NUM_NODES" --nproc-per-node="$SLURM_GPUS_ON_NODE" \
  --rdzv-backend=c10d --rdzv-endpoint="$first:29500" --rdzv-id="$SLURM_JOB_ID" \
  -m tasklens run "$source" --out "$out" --device cuda --resume "$@" &
pid=$!
wait "$pid"
status=$?
while kill -0 "$pid" 2>/dev/null; do
  wait "$pid"
  status=$?
done
exit "$status"
