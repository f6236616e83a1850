#!/usr/bin/env bash
# One model on one GPU, requeued until it is complete:  sbatch slurm_one_gpu.sh [FLAGS]
#SBATCH --job-name=hfjax
#SBATCH --gpus=1
#SBATCH --cpus-per-task=8
#SBATCH --time=04:00:00
#SBATCH --requeue                # after a preemption, or the failure of a node
#SBATCH --open-mode=append       # one log over all starts
#SBATCH --signal=TERM@120        # to the run, two minutes before the end of the time
set -euo pipefail
export SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK" # which srun does not take from sbatch

code=0
srun python -m hfjax --fdl_config=grid_rnn --workdir=runs/grid_rnn "$@" || code=$?
if [ "$code" -eq 75 ]; then # stopped by a signal, and saved
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
