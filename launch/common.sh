# shellcheck shell=bash
# Shared by tpu_vm.sh, gke_xpk.sh and slurm.sh: options, refusals, the words of train, dry runs. Sourced, never run;
# bash 3.2 will do.

fail() {
  echo "error: $*" >&2
  exit 2
}

say() { echo "launch: $*"; }

# The comment at the head of the script that was called.
usage() { awk 'NR > 1 { if (!/^#/) exit; sub(/^# ?/, ""); print }' "$0"; }

# The words as one line that a shell reads back as the same words.
quoted() {
  local word line="" quote="'\\''"
  for word; do
    case $word in
      "" | *[!A-Za-z0-9_./:=,@%+-]*) word="'${word//\'/$quote}'" ;;
    esac
    line+=" $word"
  done
  echo "${line# }"
}

# Runs a command, or prints it when this is a dry run.
run() {
  if [ -n "$dry_run" ]; then
    quoted "$@"
  else
    "$@"
  fi
}

need() { command -v "$1" > /dev/null || [ -n "$dry_run" ] || fail "$1 is not installed; $2"; }

# parse WORDS: sets name, type, zone, config, workdir, slices, spot, dry_run, delete, retries, overrides (one quoted line).
# Every other word goes to the script's function own_option: it sets what it knows and `used`, the number of words it took.
# shellcheck disable=SC2034 # what one script does not read another does
parse() {
  name="" type="" zone="" config="" workdir="" slices=1 spot="" dry_run="" delete="" retries=20 overrides=""
  while [ $# -gt 0 ]; do
    case $1 in
      --dry-run=* | --delete=* | --spot=* | --reserved=* | --delete-when-done=*) fail "${1%%=*} takes no value" ;;
      --*=*) set -- "${1%%=*}" "${1#*=}" "${@:2}" ;;
    esac
    case $1 in
      -h | --help)
        usage
        exit 0
        ;;
      --dry-run | --delete | --spot)
        local flag=${1#--}
        printf -v "${flag//-/_}" yes
        shift
        ;;
      --name | --type | --zone | --config | --workdir | --slices | --retries)
        takes_value "$@"
        printf -v "${1#--}" %s "$2"
        shift 2
        ;;
      --)
        shift
        local word
        for word; do
          case $word in
            --config | --config=* | --workdir | --workdir=*) fail "${word%%=*} goes before --; it is not only for train" ;;
          esac
        done
        overrides=$(quoted "$@")
        break
        ;;
      *)
        used=0
        own_option "$@"
        [ "$used" -gt 0 ] || fail "unknown word $1; see $0 --help (words for train itself come after --)"
        shift "$used"
        ;;
    esac
  done
  [[ $slices =~ ^[1-9][0-9]{0,2}$ ]] || fail "--slices $slices is not a number of slices, 1 to 999"
  is_number "$retries" || fail "--retries $retries is not a number"
}

takes_value() { [ $# -ge 2 ] && [[ $2 != --* ]] || fail "$1 needs a value"; }

# 0 to 99999, without a leading zero, which bash would read as octal.
is_number() { [[ $1 =~ ^(0|[1-9][0-9]{0,4})$ ]]; }

in_bucket() { [[ $1 =~ ^gs://[^/] ]]; }

check_name() {
  [ -n "$name" ] || fail "--name is missing; choose one, it is how the same command finds its machines again"
  [[ $name =~ ^[a-z]([-a-z0-9]{0,37}[a-z0-9])?$ ]] ||
    fail "--name $name is no name for a cloud resource: lower-case letters, digits and hyphens, a letter first, at most 39"
}

# What every run needs: a config among what is shipped, a workdir. Sets `train`, the one command that every worker runs.
check_run() {
  check_name
  config=${config#"$PWD/"}
  [ -n "$config" ] || fail "--config is missing; one of $(echo configs/*.py)"
  case $config in
    /* | *..*) fail "--config $config lies outside the repository, which is what is shipped; copy it to configs/" ;;
  esac
  [ -f "$config" ] || fail "there is no $config; one of $(echo configs/*.py)"
  [[ $config == *.py ]] || fail "--config $config is no Python file; one of $(echo configs/*.py)"
  [ -n "$workdir" ] || fail "--workdir is missing; it is where checkpoints go and where a preempted run continues from"
  # shellcheck disable=SC2034 # used by the scripts that source this
  train="$(quoted .venv/bin/python -m albert_jax train --config "$config" --workdir "$workdir")${overrides:+ $overrides}"
}

# Refuses a --type or --zone that tpus.tsv has not; sets runtime (image of the VMs) and size (the number in the type).
known_tpu() {
  local family=${type%-*} families sizes zones row
  size=${type##*-}
  families=$(awk '!/^#/ { printf "%s%s", mark, $1; mark = ", " }' launch/tpus.tsv)
  [ -n "$type" ] || fail "--type is missing: FAMILY-SIZE, such as v5litepod-256; families: $families"
  row=$(awk -v family="$family" '!/^#/ && $1 == family' launch/tpus.tsv)
  if [ -z "$row" ]; then
    [ "$family" != v5e ] || fail "unknown --type $type; Cloud calls it v5litepod-$size"
    fail "unknown --type $type; types are FAMILY-SIZE, families: $families (a new one goes into launch/tpus.tsv)"
  fi
  # shellcheck disable=SC2034 # runtime is used by the scripts that source this
  read -r family runtime sizes zones <<< "$row"
  among "$size" "$sizes" || fail "unknown --type $type; $family comes in $sizes"
  if ! among "$zone" "$zones"; then
    if [ -z "$zone" ]; then
      zone="is missing"
    elif among "$zone" "$(awk '!/^#/ { printf "%s,", $4 }' launch/tpus.tsv)"; then
      zone+=" has no $family"
    else
      zone+=" is unknown"
    fi
    fail "--zone $zone; zones with $family: $zones (a new one goes into launch/tpus.tsv)"
  fi
}

# among WORD LIST: whether it is one of the list, which has commas between.
among() { [[ $1 != *,* && ,$2, == *",$1,"* ]]; }

# Puts what the workers need into build/launch/NAME: the package, configs, launch scripts, and a config from elsewhere.
stage() {
  run rm -rf "build/launch/$name"
  run mkdir -p "build/launch/$name"
  local extra=()
  case $config in configs/*) ;; *) extra=("$config") ;; esac
  run tar -czf "build/launch/$name/albert_jax.tgz" --exclude=__pycache__ \
    requirements.txt requirements-dev.txt pyproject.toml README.md LICENSE albert_jax configs launch ${extra[@]+"${extra[@]}"}
}

# Of lines "WORKER ended TIME STATUS" on stdin, that of the first worker to fall: the others' ends are its consequences.
# Nothing when none fell.
first_to_fall() { awk 'NF == 4 && $2 == "ended" && $4 != 0' | sort -k 3,3n | head -n 1; }

# A status of 1 to 127 is the code's or the user's own mistake and would come again; 128 and more is a signal (143: told to
# stop, 137: killed, 134: a peer vanished) or a lost connection (255).
retriable() { [ "$1" -ge 128 ]; }
