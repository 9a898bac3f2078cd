#!/bin/bash
# A sweep on four nodes, by Ray: one command, one progress bar, one table.
#
#     sbatch examples/slurm_ray.sh SWEEP.toml runs/mine
#
# Ray starts on every node, the sweep on the first, and both end together. A run goes where there are
# cores for it; one whose process or node dies begins again elsewhere, from its last checkpoint. The
# directory has to lie where all nodes see it. The same line again does what is missing, and the job
# asks to be queued again two minutes before its time is up.
#SBATCH --job-name=tasklens
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --time=08:00:00
#SBATCH --requeue
#SBATCH --signal=B:USR1@120
#SBATCH --open-mode=append
set -u

again() {
  scontrol requeue "$SLURM_JOB_ID"
}
trap again USR1

export RAY_USAGE_STATS_ENABLED=0 # Ray would tell its makers of it
# A key that the nodes have in common, in the home directory: nobody else gives this cluster orders.
ray get-auth-token --generate >/dev/null
export RAY_AUTH_MODE=token
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
address=$first:6379

srun --nodes="$SLURM_JOB_NUM_NODES" --ntasks="$SLURM_JOB_NUM_NODES" \
  ray symmetric-run --address "$address" --min-nodes "$SLURM_JOB_NUM_NODES" \
  --num-cpus "${SLURM_CPUS_ON_NODE}" --include-dashboard false -- \
  tasklens sweep "$1" --out "$2" --engine "ray:$address" &
pid=$!
wait "$pid"
status=$?
while kill -0 "$pid" 2>/dev/null; do
  wait "$pid"
  status=$?
done
exit "$status"
