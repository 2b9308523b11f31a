#!/bin/bash
# batch.sh [-n N] [-r ROUNDS] [-s SUBMITS] [PEER...]
# N jobs /bin/true in one host, two at a time, from the first submission to the last end: xargs (no queue at all),
# task-spooler, GNU parallel, and Queue with one array (queue) and with one process a submission (queue-each). Then
# how long one submission takes, how many a program of 64 threads makes in a second, and how long it takes from the
# start of `queue -b` to the start of the job.
# Prints lines `batch PEER KEY=VALUE...`, `submit WHAT ...`. Peers take turns, so that noise meets all of them.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/peers.sh"
n=10000 r=3 submits=300
while getopts n:r:s: o; do
  case $o in n) n=$OPTARG ;; r) r=$OPTARG ;; s) submits=$OPTARG ;; *) exit 2 ;; esac
done
shift $((OPTIND - 1))
[ $# = 0 ] && set -- xargs tsp parallel queue queue-each
start_queue || exit 1

now() { echo "${EPOCHREALTIME/./}"; }
sh_in() { on h1 bash -c "$1"; }
# So many separate submissions: a process each takes its time.
each=$((n / 10))
one() {
  case $1 in
  xargs) sh_in "seq $n | xargs -n1 -P2 /bin/true" ;;
  parallel) sh_in "seq $n | parallel --will-cite -j2 /bin/true {}" ;;
  tsp) sh_in "export TS_SOCKET=/tmp/ts TS_MAXFINISHED=100000; cd /tmp; tsp -S 2
      for ((i = 0; i < $each; i++)); do tsp -n /bin/true >/dev/null; done
      while tsp -l | awk '\$2==\"queued\"||\$2==\"running\"{e=1} END{exit !e}'; do sleep 0.05; done; tsp -K" ;;
  queue) sh_in "cd /tmp; queue wait -q \$(queue -b -h h1 --array 1-$n -- /bin/true)" ;;
  queue-each) sh_in "cd /tmp; for ((i = 0; i < $each; i++)); do queue -b -h h1 --group each -- /bin/true; done >/dev/null
      queue wait -q --group each 2>/dev/null" ;;
  *) echo "batch.sh: no peer $1" >&2; return 2 ;;
  esac
}
jobs() { case $1 in tsp | queue-each) echo "$each" ;; *) echo "$n" ;; esac; }
has() {
  case $1 in
  tsp) command -v tsp >/dev/null ;;
  parallel) command -v parallel >/dev/null ;;
  esac
}
declare -A took
for ((k = 0; k < r; k++)); do
  for p in "$@"; do
    has "$p" || { [ "$k" = 0 ] && echo "batch $p unavailable"; continue; }
    python3 "$B/noise.py" --wait "${QB_PATIENCE:-0}" >&2
    t0=$(now)
    one "$p" >&2 || { echo "batch $p failed"; continue; }
    took[$p]+="$(($(now) - t0)) "
  done
done
for p in "$@"; do
  [ -n "${took[$p]:-}" ] || continue
  # shellcheck disable=SC2086 # words
  python3 - "$p" "$(jobs "$p")" ${took[$p]} <<'X'
import statistics, sys
name, n, us = sys.argv[1], int(sys.argv[2]), sorted(int(x) for x in sys.argv[3:])
s = statistics.median(us) / 1e6
print(f'batch {name} jobs={n} secs={s:.3f} jobs_s={n / s:.1f} min_s={us[0] / 1e6:.3f} max_s={us[-1] / 1e6:.3f} rounds={len(us)}')
X
done

# One submission, the process start included; and from its start to that of the job.
on h1 python3 - "$submits" <<'X'
import os, statistics, subprocess, sys, time
n = int(sys.argv[1])
os.chdir('/tmp')
def figures(name, v):
    v = sorted(v)
    at = lambda p: v[min(len(v) - 1, int(p * len(v)))] * 1e3
    print(f'submit {name} n={len(v)} p50_ms={at(0.5):.2f} p90_ms={at(0.9):.2f} p99_ms={at(0.99):.2f} max_ms={v[-1] * 1e3:.2f}')
took, until, nothing = [], [], []
for i in range(n):
    t = time.time()
    subprocess.run(['/bin/true'], stdout=subprocess.DEVNULL, check=True)
    nothing.append(time.time() - t)
    t = time.time()
    subprocess.run(['queue', '-b', '-h', 'h1', '--output', '/tmp/started', '--', '/bin/date', '+%s.%N'], stdout=subprocess.DEVNULL, check=True)
    took.append(time.time() - t)
    end = time.time() + 10
    while time.time() < end:
        try:
            text = open('/tmp/started').read()
            if text.endswith('\n'):
                until.append(float(text) - t)
                break
        except FileNotFoundError:
            pass
        time.sleep(0.002)
    subprocess.run(['rm', '-f', '/tmp/started'])
    time.sleep(0.02)
figures('nothing', nothing)
figures('acknowledged', took)
figures('to-exec', until)
X
