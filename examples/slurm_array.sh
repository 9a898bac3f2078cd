#!/bin/bash
# A sweep as an array job of eight shards, without a cluster of our own, and one table in the end:
#
#     job=$(sbatch --parsable --array=1-8 examples/slurm_array.sh SWEEP.toml runs/mine)
#     sbatch --dependency=afterany:"$job" --wrap "tasklens gather SWEEP.toml --out runs/mine"
#
# Each task runs every eighth run, as many at a time as it has cores. All tasks share one directory,
# which has to lie where all nodes see it; no task needs another. The same two lines again do what is
# missing. Two minutes before its time is up a task asks to be queued again and goes on from its
# runs' last checkpoints. Its time is that of its runs: see docs/how-to/cluster.md.
#SBATCH --job-name=tasklens
#SBATCH --cpus-per-task=16
#SBATCH --mem-per-cpu=2G
#SBATCH --time=08:00:00
#SBATCH --requeue
#SBATCH --signal=B:USR1@120
#SBATCH --open-mode=append
set -u

again() {
  scontrol requeue "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}"
}
trap again USR1

tasklens sweep "$1" --out "$2" \
  --shard "${SLURM_ARRAY_TASK_ID}/${SLURM_ARRAY_TASK_COUNT}" --workers "${SLURM_CPUS_PER_TASK:-0}" &
# bash runs a trap only between commands: so wait, and again where the trap ended the wait
pid=$!
wait "$pid"
status=$?
while kill -0 "$pid" 2>/dev/null; do
  wait "$pid"
  status=$?
done
exit "$status"
