#!/bin/bash
# Train on several nodes of a Slurm cluster:  sbatch recipes/accelerate/slurm.sh dpo dpo.yaml [key=value …]
# Nodes and GPUs of a node stand in the lines below; FILE=recipes/accelerate/ddp.yaml sbatch … takes another layout.
#SBATCH --job-name=poise
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@900
#SBATCH --requeue

set -euo pipefail
FILE=${FILE:-recipes/accelerate/fsdp2.yaml}
GPUS=${SLURM_GPUS_PER_NODE:-8}
FIRST=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
RESUME=
if [ "${SLURM_RESTART_COUNT:-0}" -gt 0 ]; then RESUME=--resume; fi

# The first task of each node starts the node's processes. TERM reaches them 15 minutes before the time is over: they
# finish their step and save, and the job, queued again, goes on from there.
export FILE GPUS FIRST RESUME TORCHELASTIC_SHUTDOWN_TIMEOUT=840
trap 'kill -TERM $STEP' TERM
srun --kill-on-bad-exit=1 bash -c '
  exec accelerate launch --config_file "$FILE" --num_machines "$SLURM_NNODES" \
    --num_processes $((SLURM_NNODES * GPUS)) --machine_rank "$SLURM_NODEID" \
    --main_process_ip "$FIRST" --main_process_port 29500 -m poise "$@" $RESUME
' poise "$@" &
STEP=$!
CODE=0
wait $STEP || CODE=$?
if kill -0 $STEP 2> /dev/null; then CODE=0; wait $STEP || CODE=$?; fi
exit $CODE
