#!/usr/bin/env bash
# One model over several nodes, one process for each node:  sbatch slurm_nodes.sh [FLAGS]
# JAX finds the other processes from SLURM's variables. All nodes see the same workdir.
#SBATCH --job-name=hfjax-nodes
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32
#SBATCH --time=12:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=TERM@180        # to the processes: all stop at the same step, and save once
set -euo pipefail
export SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK" # which srun does not take from sbatch

code=0
srun python -m hfjax --fdl_config=grid_rnn --workdir="runs/grid_rnn-nodes" "$@" || code=$?
if [ "$code" -eq 75 ]; then # stopped by a signal, and saved
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
