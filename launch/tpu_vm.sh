#!/usr/bin/env bash
# Runs python -m albert_jax train on every worker of a TPU slice, and again after every preemption, until it is done.
#
#   launch/tpu_vm.sh --name pod --type v5litepod-256 --zone us-west4-a --spot \
#       --config configs/pretrain_xlarge.py --workdir gs://BUCKET/run -- --batch-size 8192
#   launch/tpu_vm.sh --name pod --zone us-west4-a --delete
#
# A slice of that name, queued resource or plain TPU VM, is used as it is; else one is asked for as a queued resource and
# waited for. The code is shipped, .venv made from requirements.txt on every worker, and the log of worker 0 followed here.
# The run does not need this terminal: after Ctrl-C or a lost connection the same command finds it again.
#
#   --name NAME         of the queued resource and of its TPU VM (NAME-0, NAME-1, ... with --slices)
#   --type TYPE         FAMILY-SIZE, such as v5litepod-256     --zone ZONE
#   --config FILE       of this repository                     --workdir gs://BUCKET/DIR
#   --data gs://DIR     copy of a prepared corpus, fetched to every worker's disk and given to train as --task.data data
#   --slices N          slices of one run (default 1)
#   --spot, --reserved  capacity that can be preempted, or that you reserved; on demand without either
#   --retries N         in a row after infrastructure failures (default 20; a preemption after ten minutes
#                       of running starts the count again)
#   --backoff SECONDS   between looks at the queue and before the first retry (default 30), doubling up to ten minutes
#   --delete            delete the slice and leave             --delete-when-done
#   --dry-run           print the commands of an uninterrupted run
#   -- WORDS            the rest goes to train
#
# Ends with 0 when train is done; with train's own status, not retried, when the config, the data or the code is at fault.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=launch/common.sh
source launch/common.sh

tpus=(gcloud compute tpus)
reserved="" delete_when_done="" backoff=30 data=""
own_option() {
  case $1 in
    --reserved) reserved=yes used=1 ;;
    --delete-when-done) delete_when_done=yes used=1 ;;
    --backoff) takes_value "$@" && backoff=$2 used=2 ;;
    --data) takes_value "$@" && data=$2 used=2 ;;
  esac
}

# ---- the slice: what there is, asking for one, deleting it

# describe KIND NAME FIELD: prints the field, or NONE when there is no such thing; status 1 when gcloud cannot tell.
describe() {
  local said
  if said=$("${tpus[@]}" "$1" describe "$2" --zone="$zone" --format="value($3)" 2> "$scratch/describe"); then
    echo "$said"
  elif grep -q NOT_FOUND "$scratch/describe"; then
    echo NONE
  else
    cat "$scratch/describe" >&2
    return 1
  fi
}

# Sets kind (queued-resources or tpu-vm) and slice: NONE, READY, LOST (preempted) or FAILED, to be deleted both, or another
# state to wait out.
look() {
  local node state
  kind=queued-resources
  slice=$(describe queued-resources "$name" state.state) || return 1
  case $slice in
    NONE) kind=tpu-vm ;;
    SUSPENDED) slice=LOST ;;
  esac
  case $slice in NONE | ACTIVE) ;; *) return 0 ;; esac
  slice=READY # unless a TPU VM says otherwise: a preempted one may be seen before its queued resource knows
  for node in "${nodes[@]}"; do
    state=$(describe tpu-vm "$node" state) || return 1
    case $state in
      READY) ;;
      PREEMPTED | TERMINATED) slice=LOST && return 0 ;;
      NONE) if [ $kind = tpu-vm ]; then slice=NONE; else slice=LOST; fi ;;
      STOPPED | HIDDEN) fail "TPU VM $node is $state; gcloud compute tpus tpu-vm start $node --zone=$zone, or --delete it" ;;
      *) slice=$state ;;
    esac
  done
}

create() {
  local words=(--node-id="$name")
  [ "$slices" = 1 ] || words=(--node-count="$slices" --node-prefix="$name")
  [ -z "$spot" ] || words+=(--spot)
  [ -z "$reserved" ] || words+=(--reserved)
  run "${tpus[@]}" queued-resources create "$name" --zone="$zone" --accelerator-type="$type" --runtime-version="$runtime" \
    "${words[@]}" --quiet
}

delete() {
  local force=()
  [ "$kind" = tpu-vm ] || force=(--force) # with its TPU VMs
  run "${tpus[@]}" "$kind" delete "$name" --zone="$zone" ${force[@]+"${force[@]}"} --quiet
}

# Until the slice is READY. Sets fresh when it had to be asked for.
provision() {
  local seen=""
  fresh=""
  while :; do
    look || return 1
    [ "$slice" = "$seen" ] || say "$name is $slice"
    seen=$slice
    case $slice in
      READY) return 0 ;;
      NONE)
        say "asking for $slices x $type in $zone"
        # Refused at once, it is the name, the quota or a permission; refused after it ran before, it may be the cloud.
        if ! create; then
          [ "$tries" -gt 0 ] || fail "gcloud did not take the request for $name, see above"
          return 1
        fi
        fresh=yes
        ;;
      LOST | FAILED)
        if [ "$slice$tries" = FAILED0 ] && [ -n "$fresh" ]; then
          "${tpus[@]}" queued-resources describe "$name" --zone="$zone" --format="value(state)" >&2 || true
          fail "the request for $name failed, see above; --delete it before asking again"
        fi
        say "$name was preempted or failed; deleting what is left of it"
        delete || return 1
        [ -z "$fresh" ] || return 1 # asked for here and lost before it was there: that counts as a try
        ;;
    esac
    sleep "$backoff"
  done
}

# ---- the workers

# on all|first COMMAND: on every worker of every slice at once, or on worker 0 of the first. Not by `queued-resources ssh`:
# that serves 64 workers at a time, and the first 64 would wait for the others for ever.
on() {
  local node pid words pids=() status=0
  for node in "${nodes[@]}"; do
    words=("${tpus[@]}" tpu-vm ssh "$node" --zone="$zone" --worker="${1/first/0}" --command="cd albert_jax && $2" --quiet)
    if [ -n "$dry_run" ]; then
      run "${words[@]}"
    elif [ "$1" = first ] || [ ${#nodes[@]} = 1 ]; then
      "${words[@]}" < /dev/null || status=$? # in the foreground, where Ctrl-C reaches it
    else
      "${words[@]}" < /dev/null &
      pids+=($!)
    fi
    [ "$1" = all ] || break
  done
  for pid in ${pids[@]+"${pids[@]}"}; do wait "$pid" || status=$?; done
  return $status
}

ship() {
  local node
  stage || return 1
  for node in "${nodes[@]}"; do
    run "${tpus[@]}" tpu-vm scp "build/launch/$name/albert_jax.tgz" "$node:" --zone="$zone" --worker=all --quiet || return 1
    run "${tpus[@]}" tpu-vm ssh "$node" --zone="$zone" --worker=all --quiet \
      --command="mkdir -p albert_jax && tar -xzf albert_jax.tgz -C albert_jax" || return 1
  done
}

start() { on all "${data:+DATA=$(quoted "$data") }launch/worker.sh start $train"; }

follow() { on first "launch/worker.sh follow"; }

# Sets status: that of the first worker to fall, 0 when all are done. Status 1 when not every worker could be asked.
finish() {
  on all "launch/worker.sh finish" > "$scratch/ended" 2> "$scratch/said" || return 1
  local fallen worker
  fallen=$(first_to_fall < "$scratch/ended")
  status=${fallen##* }
  status=${status:-0}
  [ "$status" = 0 ] && return 0
  worker=${fallen%% *}
  say "$worker ended first, with status $status:"
  grep "^$worker: " "$scratch/ended" || true
}

# One passage from whatever there is to the end of a run, or 1 for an infrastructure failure on the way.
attempt() {
  # There from before the first worker is started until all are, also after Ctrl-C: started on some workers only, a run
  # waits for the others in vain.
  local half=build/launch/$name.half
  provision || return 1
  if [ -z "$fresh" ] && [ ! -e "$half" ] && on first "launch/worker.sh live" 2> /dev/null; then
    say "it runs; following it"
    tries=0
  else
    say "shipping the code and starting on every worker"
    mkdir -p build/launch && touch "$half"
    ship && start || return 1
    rm -f "$half"
  fi
  began=$SECONDS
  follow && finish
}

# ---- the story

parse "$@"
if [ -n "$delete" ]; then
  check_name
  [ -n "$zone" ] || fail "--zone is missing"
else
  check_run
  known_tpu
  [ -z "$spot" ] || [ -z "$reserved" ] || fail "--spot and --reserved exclude each other"
  is_number "$backoff" || fail "--backoff $backoff is not a number of seconds"
  if ! in_bucket "$workdir"; then
    [ "$size" -le 8 ] && [ "$slices" = 1 ] ||
      fail "--workdir $workdir is each worker's own disk, and this run has several; every one must reach it: gs://BUCKET/DIR"
    [ -z "$spot" ] || fail "--workdir $workdir goes with the VM when it is preempted; give gs://BUCKET/DIR"
    [[ $workdir != *://* ]] || fail "--workdir $workdir is neither a directory nor gs://BUCKET/DIR"
  fi
  [ -z "$data" ] || in_bucket "$data" || fail "--data $data is not on gs://, from where every worker fetches it"
  [ -z "$data" ] || train+=" --task.data data"
fi
need gcloud "see https://cloud.google.com/sdk/docs/install"
nodes=("$name")
[ "$slices" = 1 ] || { nodes=() && for i in $(seq 0 $((slices - 1))); do nodes+=("$name-$i"); done; }

if [ -n "$dry_run" ]; then
  kind=queued-resources
  [ -z "$delete" ] || { delete && exit 0; }
  create && ship && start && follow && on all "launch/worker.sh finish"
  [ -z "$delete_when_done" ] || delete
  exit 0
fi

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
left() {
  # shellcheck disable=SC2046 # a word for each of those in the background, which Ctrl-C does not reach
  kill $(jobs -p) 2> /dev/null || true
  say "left; what is there goes on and costs: the same command follows it, --delete ends it"
  exit 130
}
trap left INT
# Refused at the very first look, it is the login, the project, the zone or a right; later it may be the network.
look || fail "gcloud cannot tell what there is, see above"
if [ -n "$delete" ]; then
  [ "$slice" != NONE ] || fail "there is no queued resource or TPU VM named $name in $zone"
  delete
  exit
fi

tries=0 pause=$backoff
while :; do
  began=$SECONDS
  if attempt; then
    if [ "$status" = 0 ]; then
      say "done"
      [ -n "$delete_when_done" ] && delete && exit 0
      say "$name is still there, and costs: --delete ends it"
      [ -z "$delete_when_done" ] || exit 1
      exit 0
    fi
    if ! retriable "$status" && look && [ "$slice" = READY ]; then
      say "that is the config, the data or the code, so it is not tried again"
      say "$name is still there, and costs: --delete ends it"
      exit "$status"
    fi
  fi
  # Preempted after a while is progress; a worker that dies on a slice that is there may do so for ever.
  if [ $((SECONDS - began)) -ge 600 ] && look && [ "$slice" != READY ]; then tries=0 pause=$backoff; fi
  tries=$((tries + 1))
  [ "$tries" -le "$retries" ] || { say "$retries retries in a row failed; the same command goes on" && exit 1; }
  say "infrastructure failure; retry $tries of $retries in $pause s"
  sleep "$pause"
  pause=$((pause * 2 > 600 ? 600 : pause * 2))
done
