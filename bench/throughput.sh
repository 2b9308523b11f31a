#!/bin/bash
# throughput.sh [-b BYTES] [-r ROUNDS] [PEER...]   stdin to h2, and stdout from h2
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/peers.sh"
b=$((2 << 30)) r=3
while getopts b:r: o; do case $o in b) b=$OPTARG ;; r) r=$OPTARG ;; *) exit 2 ;; esac; done
shift $((OPTIND - 1))
[ $# = 0 ] && set -- ssh ssh-gcm rsh queue
args=()
for p in "$@"; do
  need "$p" || { echo "throughput ${p%%=*} unavailable"; continue; }
  case $p in
  queue) args+=("queue+=$(prefix queue)") ;; # takes the command as separate words
  *=*) args+=("$p") ;;
  *) args+=("$p=$(prefix "$p")") ;;
  esac
done
on h1 python3 "$B/throughput.py" --bytes "$b" -r "$r" "${args[@]}"
