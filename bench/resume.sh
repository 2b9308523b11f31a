#!/bin/bash
# resume.sh [-n ROUNDS] [-s SECONDS]...
# How soon a session goes on after its host was cut off for so many seconds (3, 10 and 30). Lines `resume healed KEY=VALUE...`.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/peers.sh"
n=5 cuts=
while getopts n:s: o; do case $o in n) n=$OPTARG ;; s) cuts="$cuts $OPTARG" ;; *) exit 2 ;; esac; done
start_queue || exit 1
link="ip -n $QB_NAME-sw link set qbt2"
trap '$link master br0' EXIT
for s in ${cuts:-3 10 30}; do
  python3 "$B/resume.py" -n "$n" -s "$s" --cut "$link nomaster" --heal "$link master br0" -- \
    "$B/on.sh" h1 queue -h h2 -- || exit 1
done
