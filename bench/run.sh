#!/bin/bash
# run.sh [-q] [OUTDIR]
# Measures Queue and its peers (rsh, ssh with a warm master, ssh) side by side on three hosts made of namespaces, and
# prints the figures against what must be reached. Takes about twelve minutes; -q: one, to see that it works.
#
# Needs root, and Debian's packages below (installed if absent; the servers of rsh are among them, which Debian starts
# at once: not for a machine that others reach). PAM is off for all but ssh, whose server has it on
# as Debian ships it. OUTDIR (default target/bench) keeps the raw lines. BUILT: directory of built programs to take
# instead of building. QB_PATIENCE: seconds that each figure may wait for a quiet machine (60).
set -u
top=$(cd "$(dirname "$0")/.." && pwd)
cd "$top" || exit 1
# shellcheck source=tests/scripts/lib.sh
. tests/scripts/lib.sh
# shellcheck source=bench/lib.sh
. bench/lib.sh
quick=
[ "${1:-}" = -q ] && { quick=1; shift; }
# shellcheck disable=SC2154 # from the library
out=${1:-$target/bench}
[ "$(id -u)" = 0 ] || die "needs root: hosts are made of namespaces"
need_packages iproute2 procps openssh-server openssh-client rsh-redone-client rsh-redone-server \
  openbsd-inetd python3 util-linux
mkdir -p "$out" "$QB" || exit 1
exec 9>"$QB/lock"
flock -n 9 || die "another run is at work in $QB"
export QB_PATIENCE=${QB_PATIENCE:-60}
n=400 keys=2000 rounds=3 bytes=$((2 << 30)) still=60 cut=30
[ -n "$quick" ] && { n=40 keys=200 rounds=1 bytes=$((128 << 20)) still=5 cut=8 QB_PATIENCE=0; }

make -s install PREFIX="$QB/queue" ${BUILT:+BUILT="$BUILT" -o build} >/dev/null || die "the build failed"
# Processes that the hosts keep must not keep the lock.
trap 'bench/hosts.sh down' EXIT
trap 'exit 130' INT TERM HUP
bench/hosts.sh up 3 9>&- || exit 1
bench/peers.sh start ssh ssh-mux rsh queue 9>&- || exit 1

run() { # FILE SCRIPT ARG...
  local name=$1
  shift
  say "$*"
  "$@" >"$out/$name.txt" 2>"$out/$name.err" 9>&- || { tail -5 "$out/$name.err" >&2; die "$* failed"; }
  cat "$out/$name.txt"
}
run footprint bench/footprint.sh -s $still
run launch bench/launch.sh -n $n local rsh ssh-mux ssh queue
run echo bench/echo.sh -n $keys -r $rounds local ssh queue
run throughput bench/throughput.sh -b $bytes -r $rounds ssh ssh-gcm rsh queue \
  "queue-unkept+=env QUEUE_RESUME=0 queue -h h2 --"
run resume bench/resume.sh -n $rounds ${quick:+-s 3}
run idle bench/idle.sh ${quick:+-n 50 -l 40 -s 5}
run place bench/place.sh -n $((n / 2)) -s $cut
{
  echo
  printf '%s, %d cores, Linux %s, %s; PAM off in Queue\n' "$(date -u +%F)" "$(nproc)" "$(uname -r)" "$(ssh -V 2>&1)"
  python3 bench/table.py "$out"/{footprint,launch,echo,throughput,resume,idle,place}.txt
} | tee "$out/table.txt"
