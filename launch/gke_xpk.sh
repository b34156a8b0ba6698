#!/usr/bin/env bash
# Runs python -m albert_jax train as an xpk workload on a GKE cluster with TPU node pools, restarted by the cluster after
# preemptions until it is done.
#
#   launch/gke_xpk.sh --name pod --cluster CLUSTER --type v5litepod-256 --zone us-west4-a --spot \
#       --config configs/pretrain_xlarge.py --workdir gs://BUCKET/run -- --batch-size 8192
#   launch/gke_xpk.sh --name pod --cluster CLUSTER --zone us-west4-a --delete
#
# The code is laid over a Python image; each worker makes .venv from requirements.txt when it starts. The restarts are the
# cluster's and need no terminal here: after Ctrl-C the same command waits for the same workload.
#
#   --name NAME         of the workload        --cluster NAME, --project ID    as xpk knows them
#   --type TYPE         FAMILY-SIZE, such as v5litepod-256     --zone ZONE
#   --config FILE       of this repository                     --workdir gs://BUCKET/DIR
#   --storage NAME      bucket or disk that `xpk storage attach` gave the cluster: where --task.data is
#   --slices N          slices of one run (default 1)
#   --spot              capacity that can be preempted, where the cluster makes its own node pools
#   --retries N         restarts after infrastructure failures (default 20)
#   --delete            delete the workload and leave; the cluster stays
#   --dry-run           print the commands
#   -- WORDS            the rest goes to train
#
# Ends with 0 when train is done. A mistake in config, data or code (status 1 to 126, but not 42) ends the workload at once;
# other ends (143: told to stop; 137: killed) restart it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=launch/common.sh
source launch/common.sh

cluster="" project="" storage=""
own_option() {
  case $1 in
    --cluster | --project | --storage)
      takes_value "$@"
      printf -v "${1#--}" %s "$2"
      used=2
      ;;
  esac
}

parse "$@"
check_name
[ -n "$cluster" ] || fail "--cluster is missing; xpk cluster list tells their names"
if [ -n "$delete" ]; then
  [ -n "$zone" ] || fail "--zone is missing; it is the cluster's"
else
  check_run
  known_tpu
  case $type in
    v5litepod-1 | v5litepod-4) fail "--type $type is part of a host, which xpk has not; take v5litepod-8, or launch/tpu_vm.sh" ;;
  esac
  in_bucket "$workdir" ||
    fail "--workdir $workdir is a container's own disk, which ends with it; every worker must reach it: gs://BUCKET/DIR"
fi
need xpk "pip install xpk (in an environment of its own)"
need gcloud "xpk calls it; see https://cloud.google.com/sdk/docs/install"
need kubectl "xpk calls it; gcloud components install kubectl"

where=(--cluster "$cluster" --zone "$zone")
[ -z "$project" ] || where+=(--project "$project")
if [ -n "$delete" ]; then
  run xpk workload delete --workload "$name" "${where[@]}" --force
  exit
fi

wait_for_it=(xpk workload list "${where[@]}" --filter-by-job "$name" --wait-for-job-completion "$name")
there=""
if [ -z "$dry_run" ]; then
  there=$(xpk workload list "${where[@]}" --filter-by-job "^$name\$") || fail "xpk cannot tell what runs, see above"
fi
if awk -v name="$name" '$1 == name { found = 1 } END { exit !found }' <<< "$there"; then
  say "$name is there already; waiting for it (--delete it to run something else under that name)"
else
  code=build/launch/$name/code
  stage
  run mkdir -p "$code"
  run tar -xzf "build/launch/$name/albert_jax.tgz" -C "$code"
  words=(--workload "$name" "${where[@]}" --tpu-type "$type" --num-slices "$slices" --max-restarts "$retries")
  [ -z "$spot" ] || words+=(--spot)
  [ -z "$storage" ] || words+=(--storage "$storage")
  # exec, so that a SIGTERM to the container reaches train and not a shell; two minutes, so that it can save.
  run xpk workload create "${words[@]}" --base-docker-image python:3.12 --script-dir "$code" \
    --termination-grace-period-seconds 120 --command "launch/setup.sh tpu && exec $train"
fi
worker_0=xpk.google.com/workload=$name,batch.kubernetes.io/job-completion-index=0
say "log of worker 0: kubectl logs --follow --selector $worker_0"
status=0
run "${wait_for_it[@]}" || status=$?
[ -z "$dry_run" ] || exit 0
case $status in
  0) say "done" ;;
  125) say "$name failed: the config, the data or the code, or more than $retries restarts; its log tells" ;;
  *) say "lost sight of $name (xpk ended with $status); the same command waits for it again" ;;
esac
exit $status
