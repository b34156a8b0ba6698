#!/usr/bin/env bash
# One worker's end of tpu_vm.sh, which calls it over ssh. The run outlives the connection that started it.
#   worker.sh start COMMAND    makes the environment, stops what still runs, starts the command
#   worker.sh live             status 0 while it runs
#   worker.sh follow           prints its log until it ends
#   worker.sh finish           gives it two minutes to end, stops it if need be, prints "WORKER ended TIME STATUS"
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# /proc tells the run from another process that was given its number after a reboot.
live() { [ -s run/pid ] && grep -qs worker.sh "/proc/$(cat run/pid)/cmdline"; }

ends_within() { # SECONDS
  local _
  for _ in $(seq "$(($1 * 10))"); do
    live || return 0
    sleep 0.1
  done
  ! live
}

# One SIGTERM to the command alone: train saves and leaves, a second one would cut that short.
stop() {
  live || return 0
  kill -TERM "$(cat run/child)" 2> /dev/null || true
  ends_within 60 || kill -KILL "$(cat run/child)" 2> /dev/null || true
  ends_within 10
}

case $1 in
  start)
    shift
    stop
    mkdir -p run
    rm -f run/exit run/child
    [ -x .venv/bin/python ] || PYTHON=$(launch/python.sh)
    export PYTHON=${PYTHON:-}
    launch/setup.sh tpu
    if [ -n "${DATA:-}" ]; then gcloud storage rsync --recursive "$DATA" data; fi
    # Without this, systemd takes a user's shared memory away when the last connection closes.
    loginctl enable-linger > /dev/null 2>&1 || true
    setsid nohup bash launch/worker.sh run "$@" > /dev/null 2>&1 < /dev/null &
    echo $! > run/pid
    ;;
  run) # detached by start: the one that waits for the command and writes down how it ended
    shift
    trap : TERM # a shutdown signals the command too
    "$@" > run/log 2>&1 &
    child=$!
    echo $child > run/child
    while :; do
      wait $child && status=0 || status=$?
      kill -0 $child 2> /dev/null || break
    done
    trap "" TERM # also for date
    echo "$(date +%s.%N) $status" > run/exit
    ;;
  live) live ;;
  follow)
    until [ -e run/log ] || ! live; do sleep 0.1; done
    tail -n 100 -s 0.2 --pid="$(cat run/pid)" -f run/log
    ;;
  finish)
    ends_within "${GRACE:-120}" || stop
    if [ -s run/exit ]; then read -r when status < run/exit; else when=$(date +%s.%N) status=137; fi
    [ "$status" = 0 ] || tail -n 20 run/log | sed "s/^/$(hostname): /"
    echo "$(hostname) ended $when $status"
    ;;
  *)
    echo "error: unknown verb $1" >&2
    exit 2
    ;;
esac
