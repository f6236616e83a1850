#!/usr/bin/env bash
# Ten seeds as a job array, at most four at a time:  sbatch slurm_seeds.sh [FLAGS]
# On one large GPU `--seeds=10` in a single job is faster; `python -m hfjax.sweep` also makes tables.
#SBATCH --job-name=hfjax-seeds
#SBATCH --array=0-9%4
#SBATCH --gpus=1
#SBATCH --cpus-per-task=4
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=TERM@120
set -euo pipefail
export SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK" # which srun does not take from sbatch

seed=$SLURM_ARRAY_TASK_ID
code=0
srun python -m hfjax --fdl_config=grid_rnn --seed="$seed" --wandb_group=grid_rnn-seeds \
    --workdir="runs/grid_rnn-seed$seed" "$@" || code=$?
if [ "$code" -eq 75 ]; then # stopped by a signal, and saved
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
