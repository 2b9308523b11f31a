#!/bin/bash
# idle.sh [-n N] [-l LAUNCHES] [-s SECONDS]   what N sessions that do nothing cost a host, and whether launches notice
#
# Lines: memory of a session (its process and its init, without its command) and of the daemons, the CPU of all of
# them over SECONDS, and how long a launch takes without them, with them, and without them again; and how much CPU
# h2 spends on each launch, which other work on the machine changes less than the time.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/peers.sh"
n=1000 launches=200 s=20
while getopts n:l:s: o; do case $o in n) n=$OPTARG ;; l) launches=$OPTARG ;; s) s=$OPTARG ;; *) exit 2 ;; esac; done
need queue || exit 1
cpu_ms() { # of everything on h2 so far
  if [ -r "$CG/$QB_NAME-h2/cpuacct.usage" ]; then
    awk '{ print $1 / 1e6 }' "$CG/$QB_NAME-h2/cpuacct.usage"
  else
    awk '/^usage_usec/ { print $2 / 1e3 }' "$CG/$QB_NAME-h2/cpu.stat"
  fi
}
launch() { # WHEN
  local before after line
  before=$(cpu_ms)
  line=$(on h1 python3 "$B/launch.py" -n "$launches" "$1=queue -h h2 -- /bin/true") || exit 1
  after=$(cpu_ms)
  echo "held ${line#launch } h2_cpu_ms_each=$(echo "$before $after $launches" | awk '{ printf "%.2f", ($2 - $1) / $3 }')"
}
no_commands() { [ "$(on h2 pgrep -xc cat)" = 0 ]; }
launch alone
coproc HOLD { on h1 env IDLE_STDERR="$QB/shared/idle.err" python3 "$B/idle.py" hold "$n"; }
up=
read -r -t 300 up <&"${HOLD[0]}"
if [ "$up" != up ]; then
  tail -3 "$QB/shared/idle.err" >&2
  exit 1
fi
# Those that began last have become quiet.
sleep 1
launch with
on h2 python3 "$B/idle.py" measure "$s"
hold=${HOLD[1]}
exec {hold}>&-
read -r -t 60 held <&"${HOLD[0]}" || { echo "idle.sh: the sessions do not end" >&2; exit 1; }
echo "$held"
wait
until_ok 30 "the end of the sessions' commands" no_commands || exit 1
launch alone-again
case $held in *" fail=0") ;; *) exit 1 ;; esac
