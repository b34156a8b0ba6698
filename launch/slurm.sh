#!/usr/bin/env bash
# Runs python -m albert_jax train on GPU nodes under SLURM, one process a GPU, requeued after preemption or at the time limit
# until it is done.
#
#   launch/slurm.sh --name albert --nodes 2 --type h100:8 --zone PARTITION --time 24:00:00 \
#       --config configs/pretrain_xlarge.py --workdir /shared/runs/xlarge -- --batch-size 8192
#
# To be called on a login node, in a copy of this repository on a file system that the nodes share: .venv is made there.
#
#   --name NAME         of the job             --nodes N (default 1)
#   --type [NAME:]N     GPUs of a node, as `sinfo -o %G` names them, such as h100:8
#   --zone PARTITION    default: the cluster's own default             --time LIMIT    default: the partition's
#   --config FILE       of this repository     --workdir DIR           on a file system that the nodes share, or
#                                                                      gs://BUCKET/DIR
#   --retries N         requeues after infrastructure failures (default 20)
#   --dry-run           print the batch script
#   -- WORDS            the rest goes to train
#
# A mistake in config, data or code (status 1 to 127) ends the job; 143 (told to stop), 137 and the like requeue it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=launch/common.sh
source launch/common.sh

nodes=1 limit=""
own_option() {
  case $1 in
    --nodes) takes_value "$@" && nodes=$2 used=2 ;;
    --time) takes_value "$@" && limit=$2 used=2 ;;
  esac
}

parse "$@"
[ -z "$delete" ] || fail "scancel --name $name ends the job; there is nothing else to delete"
[ -z "$spot" ] || fail "--spot is for Cloud; a partition that can be preempted is chosen by --zone"
[ "$slices" = 1 ] || fail "--slices is for TPU slices; give --nodes"
check_run
[[ $nodes =~ ^[1-9][0-9]*$ ]] || fail "--nodes $nodes is not a number of nodes"
[[ $type =~ ^([A-Za-z0-9_.-]+:)?[1-9][0-9]*$ ]] ||
  fail "--type ${type:-is missing}: GPUs of a node as [NAME:]NUMBER, such as h100:8"
extras=gpu
case $workdir in
  gs://[!/]*) extras=gpu,gcs ;;
  *://*) fail "--workdir $workdir is neither a directory nor gs://BUCKET/DIR" ;;
  /tmp/* | /dev/shm/*) fail "--workdir $workdir is each node's own; give a directory that the nodes share" ;;
  /*) ;;
  *) workdir=$PWD/$workdir && check_run ;;
esac
need sbatch "call this on a login node of a SLURM cluster"
if [ -z "$dry_run" ] && command -v sinfo > /dev/null; then
  partitions=$(sinfo --noheader --format=%R) || fail "sinfo does not answer, see above"
  gpus=$(sinfo --noheader --format=%G) || fail "sinfo does not answer, see above"
  [ -z "$zone" ] || grep -qxF -- "$zone" <<< "$partitions" ||
    fail "unknown --zone $zone; partitions: $(sort -u <<< "$partitions" | paste -sd ' ' -)"
  [ "$type" = "${type#*:}" ] || grep -qF -- ":${type%:*}:" <<< "$gpus" ||
    fail "unknown --type $type; GPUs here: $(sort -u <<< "$gpus" | paste -sd ' ' -)"
fi

# One process a GPU, because jax.distributed takes SLURM_LOCALID for the number of the process's only GPU; for the same
# reason every process must see all GPUs of its node, so they are asked for by node.
batch_script() {
  cat << SCRIPT
#!/usr/bin/env bash
#SBATCH --job-name=$name
#SBATCH --nodes=$nodes
#SBATCH --ntasks-per-node=${type##*:}
#SBATCH --gpus-per-node=$type
${zone:+#SBATCH --partition=$zone
}${limit:+#SBATCH --time=$limit
}#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=runs/slurm/$name-%j.log
#SBATCH --signal=TERM@120
set -euo pipefail
cd $(quoted "$PWD")
source launch/common.sh
ended=runs/slurm/$name-\$SLURM_JOB_ID.ended
rm -f "\$ended"
export ended
trap : TERM # srun's processes get the signal too, and this script outlives them
status=0
srun --kill-on-bad-exit=1 bash -c 'trap : TERM; "\$@" && status=0 || status=\$?
  trap "" TERM # also for date
  echo "\$SLURM_PROCID ended \$(date +%s.%N) \$status" >> "\$ended"; exit \$status' - \\
  $train || status=\$?
[ "\$status" = 0 ] && say "done" && exit
fallen=\$(first_to_fall < "\$ended") || true
status=\${fallen##* }
status=\${status:-137}
say "process \${fallen%% *} ended first, with status \$status"
retriable "\$status" || { say "that is the config, the data or the code, so it is not tried again" && exit "\$status"; }
[ "\${SLURM_RESTART_COUNT:-0}" -lt $retries ] || { say "$retries requeues failed" && exit "\$status"; }
# Preempted, SLURM requeues it, and cancelled, nobody should; at the time limit it still runs.
[ "\$(squeue --noheader --jobs="\$SLURM_JOB_ID" --format=%T)" = RUNNING ] || exit "\$status"
say "infrastructure failure; requeued"
scontrol requeue "\$SLURM_JOB_ID"
SCRIPT
}

if [ -n "$dry_run" ]; then
  echo "launch/setup.sh $extras"
  echo "sbatch --parsable << SCRIPT"
  batch_script
  echo "SCRIPT"
  exit 0
fi
launch/setup.sh "$extras"
mkdir -p runs/slurm
job=$(batch_script | sbatch --parsable) || fail "sbatch did not take the job, see above"
job=${job%%;*} # JOB;CLUSTER on a federation
say "job $job; watch: tail -F runs/slurm/$name-$job.log; end: scancel $job"
