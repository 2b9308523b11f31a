#!/bin/bash
# place.sh [-n N] [-s SECONDS]
# Where launches from h1 go and what that costs, on three hosts with Queue: shares of 200 launches at once; a launch on
# any host beside one on a named host; launches while h3 is a black hole; how soon it is known that a host died,
# stopped, was drained, came back, and that a network cut in two for SECONDS (30) is whole again.
# Prints lines `place WHAT KEY=VALUE...`. Leaves the hosts as they were.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/peers.sh"
n=200 cut=30
while getopts n:s: o; do case $o in n) n=$OPTARG ;; s) cut=$OPTARG ;; *) exit 2 ;; esac; done
start_queue || exit 1

now() { echo "${EPOCHREALTIME/./}"; }
seconds() { # SINCE: since then, in seconds
  awk -v us=$(($(now) - $1)) 'BEGIN { printf "%.2f", us / 1e6 }'
}
state() { # ASKED HOST: how the one finds the other
  on "$1" queue hosts 2>/dev/null | awk -v h="$2" '{ sub(/\*$/, "", $1) } $1 == h { print $2 }'
}
finds() { # HOST STATE ASKED...
  local host=$1 state=$2 h
  shift 2
  for h in "$@"; do [ "$(state "$h" "$host")" = "$state" ] || return 1; done
}
all_up() {
  local h
  for h in $HOSTS; do finds "$h" up h1 h2 h3 || return 1; done
}
known() { # WHAT SINCE HOST STATE ASKED...
  local what=$1 since=$2
  shift 2
  until_ok 60 "$1 to be $2" finds "$@" || exit 1
  echo "place known what=$what seconds=$(seconds "$since")"
}
back() { until_ok 60 "all hosts to be up" all_up || exit 1; }
configure() { # HOST LINE...: other lines of configuration
  local h=$1
  shift
  printf '%s\n' "$@" | on "$h" tee /etc/queue/queued.toml >/dev/null
  on "$h" pkill -HUP -x queued
}
plugged() { # HOST 1|0
  local how="nomaster"
  [ "$2" = 1 ] && how="master br0"
  # shellcheck disable=SC2086 # words
  ip -n "$QB_NAME-sw" link set "qbt${1#h}" $how
}
shares() { # NAME WEIGHTS: 200 launches at once, and how far the worst share is off
  # shellcheck disable=SC2016 # for the shell there
  on h1 bash -c 'd=$(mktemp -d); cd /
    for i in $(seq 200); do queue -- hostname >$d/$i 2>&1 & p[$i]=$!; done
    f=0; for i in $(seq 200); do wait ${p[$i]} || f=$((f+1)); done
    cat $d/* | sort | uniq -c; echo "$f failed"; rm -r "$d"' |
    awk -v name="$1" -v weights="$2" '
      $2 == "failed" { fail = $1; next } { got[$2] = $1 }
      END {
        k = split(weights, w, ":"); for (i = 1; i <= k; i++) whole += w[i]
        for (i = 1; i <= k; i++) {
          want = 200 * w[i] / whole; off = (got["h" i] - want) / want; off = off < 0 ? -off : off
          if (off > worst) worst = off
        }
        printf "place shares case=%s weights=%s h1=%d h2=%d h3=%d off_pct=%.0f fail=%d\n",
          name, weights, got["h1"], got["h2"], got["h3"], worst * 100, fail
      }'
}
launches() { # NAME: N launches one after the other
  local json=$QB/shared/place.json
  on h1 python3 "$B/launch.py" -n "$n" --json "$json" "$1=queue -- /bin/true" >"$QB/shared/place.txt"
  python3 - "$1" "$json" <<'E'
import json, sys
t = sorted(json.load(open(sys.argv[2]))[sys.argv[1]])
print(f'place launches case={sys.argv[1]} n={len(t)} p50_ms={t[len(t)//2]*1e3:.2f} max_ms={t[-1]*1e3:.2f}')
E
  grep -q 'fail=0' "$QB/shared/place.txt" || { cat "$QB/shared/place.txt" >&2; exit 1; }
}

# What the hosts take for the machine's tasks is a file of their own: they share a machine that does other things, too.
loads() { # LOAD OF h1, h2, h3
  local h
  for h in $HOSTS; do echo "$1 $1 $1 1/100 100" | on "$h" tee /run/loadavg >/dev/null; shift; done
}
unload() {
  local h
  for h in $HOSTS; do on "$h" umount /proc/loadavg 2>/dev/null; done
}
quiet() { # every host has as good as forgotten what ran there
  local h
  for h in $HOSTS; do
    on "$h" queue hosts -R "host==$h" --json | python3 -c '
import json, sys
h = json.load(sys.stdin)["hosts"][0]
sys.exit(h["sessions"] > 0 or h["starts"] > 0.5 or h["running"] > 0.5)' || return 1
  done
}
idle() { until_ok 60 "the hosts to be idle" quiet || exit 1; }

back
loads 0.00 0.00 0.00
trap unload EXIT
for h in $HOSTS; do on "$h" mount --bind /run/loadavg /proc/loadavg; done
idle
shares idle 1:1:1
idle
loads 0.10 0.20 0.30
known_loads() {
  local l
  for l in 0.10 0.20 0.30; do on h1 queue hosts | awk -v l=$l '$3 == l { n = 1 } END { exit !n }' || return 1; done
}
until_ok 20 "the loads to be known" known_loads || exit 1
shares loads 1:1:1
loads 0.00 0.00 0.00
configured() { # EXPR...: each holds for one host
  local e
  for e in "$@"; do [ "$(on h1 queue hosts -R "$e" --json | grep -c '"name": "h')" = 1 ] || return 1; done
}
default() { [ "$(on h1 queue hosts -R "power==1 && cores==$(nproc)" --json | grep -c '"name": "h')" = 3 ]; }
for what in cores power; do
  for k in 1 2 4; do configure "h$((k - k / 4))" "$what = $k"; done
  until_ok 20 "$what to be known" configured "$what==1" "$what==2" "$what==4" || exit 1
  idle
  shares "$what" 1:2:4
  for h in $HOSTS; do configure "$h" ''; done
  until_ok 20 "$what to be forgotten" default || exit 1
done
unload
trap - EXIT

on h1 python3 "$B/launch.py" -n "$n" 'named=queue -h h2 -- /bin/true' 'any=queue -h + -- /bin/true' \
  'own=queue -h h1 -- /bin/true' | sed 's/^launch /place plus peer=/'

launches before
plugged h3 0
at=$(now)
launches black-hole &
known unplugged "$at" h3 down h1 h2
wait
plugged h3 1
back

# A network in two halves, with launches on both sides.
busy() { # HOST
  # shellcheck disable=SC2016 # for the shell there
  on "$1" timeout "$cut" bash -c 'while :; do queue -- true || echo failed; done' 2>/dev/null | grep -c failed
}
plugged h1 0
{ busy h1 >"$QB/shared/busy1" & busy h2 >"$QB/shared/busy2" & wait; }
plugged h1 1
at=$(now)
back
echo "place known what=healed seconds=$(seconds "$at") fail=$(($(cat "$QB/shared/busy1") + $(cat "$QB/shared/busy2")))"

at=$(now)
on h3 queue drain h3 >/dev/null
known drained "$at" h3 drained h1 h2
on h3 queue undrain h3 >/dev/null
back
at=$(now)
on h3 pkill -TERM -x queued
known stopped "$at" h3 left h1 h2
at=$(now)
on -d "$QB/h3/queued.log" h3 queued run
back
echo "place known what=returned seconds=$(seconds "$at")"
at=$(now)
on h3 pkill -KILL -x queued
known killed "$at" h3 down h1 h2
on -d "$QB/h3/queued.log" h3 queued run
back
