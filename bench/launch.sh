#!/bin/bash
# launch.sh [-n N] [PEER...]     latency of /bin/true on h2, started from h1
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/peers.sh"
n=200
[ "${1:-}" = -n ] && { n=$2; shift 2; }
[ $# = 0 ] && set -- local rsh ssh-mux ssh queue
args=()
for p in "$@"; do
  need "$p" || { echo "launch ${p%%=*} unavailable"; continue; }
  case $p in
  local) args+=("local=@fork") ;;
  *) args+=("${p%%=*}=$(prefix "$p") /bin/true") ;;
  esac
done
on h1 python3 "$B/launch.py" -n "$n" "${args[@]}"
