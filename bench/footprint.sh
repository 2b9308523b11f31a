#!/bin/bash
# footprint.sh [-s SECONDS]   what Queue costs a host that does nothing, and what a session costs
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/peers.sh"
s=60
while getopts s: o; do case $o in s) s=$OPTARG ;; *) exit 2 ;; esac; done
need queue || exit 1
# All hosts at the same time.
pids=
for h in $HOSTS; do
  on "$h" python3 "$B/footprint.py" idle "$s" &
  pids="$pids $!"
done
for p in $pids; do wait "$p" || exit 1; done
# The command tells its process id on h2 and waits for end of file.
coproc SESSION { on h1 queue -h h2 -- sh -c 'echo $$; exec cat'; }
read -r -t 20 pid <&"${SESSION[0]}" || { echo "footprint.sh: no session" >&2; exit 1; }
on h2 python3 "$B/footprint.py" session "$pid"
fd=${SESSION[1]}
exec {fd}>&-
wait
