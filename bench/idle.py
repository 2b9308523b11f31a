#!/usr/bin/env python3
"""idle.py hold N | measure SECONDS

hold:     run in one host: keeps N sessions on h2 whose command waits for its input, until end of file on stdin
measure:  run in the other: what those sessions cost it, by `cat`, which is their command. Memory of each session
          process and its init process, of the daemons, and the CPU of all of these over SECONDS
"""
import os, subprocess, sys, time
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from footprint import cpu_ns, memory, named, parent, read

def commands():
    return [int(p) for p in os.listdir('/proc') if p.isdigit() and read(f'/proc/{p}/comm') == 'cat\n']

def hold(n):
    # One pipe is everybody's input: nothing comes until it ends.
    r, w = os.pipe()
    all_of_them, errors = [], os.environ.get('IDLE_STDERR', '/dev/null')
    with open(errors, 'ab') as err:
        for i in range(n):
            p = subprocess.Popen(['queue', '-h', 'h2', '--', 'sh', '-c', 'echo; exec cat'], stdin=r,
                                 stdout=subprocess.PIPE, stderr=err)
            all_of_them.append(p)
            # A few begin at once, as on a busy host.
            if i >= 8:
                if all_of_them[i - 8].stdout.readline() != b'\n':
                    sys.exit(f'idle.py: session {i - 8} did not begin: see {errors}')
    for p in all_of_them[-8:]:
        if p.stdout.readline() != b'\n':
            sys.exit(f'idle.py: one of the last sessions did not begin: see {errors}')
    print('up', flush=True)
    sys.stdin.read()
    failed = sum(p.poll() is not None for p in all_of_them)
    os.close(w)
    os.close(r)
    failed += sum(p.wait() != 0 for p in all_of_them)
    print(f'held sessions n={n} fail={failed}', flush=True)

def measure(seconds):
    found = commands()
    inits = [parent(c) for c in found]
    sessions = [parent(i) for i in inits]
    n = max(1, len(found))
    for name, pids in (('session', sessions), ('init', inits)):
        rss, pss, private = (sum(m) / n / 1024 for m in zip(*map(memory, pids))) if pids else (0, 0, 0)
        print(f'held {name} n={len(pids)} rss_MiB={rss:.3f} pss_MiB={pss:.3f} private_MiB={private:.3f}')
    daemons = named('queued', 'queue-exec')
    mem = {d: sum(memory(p)[0] for p in daemons if daemons[p] == d) / 1024 for d in ('queued', 'queue-exec')}
    before, t = {p: cpu_ns(p) for p in [*daemons, *sessions, *inits]}, time.monotonic()
    time.sleep(seconds)
    dt = time.monotonic() - t
    used = {p: (cpu_ns(p) - c) / 1e9 / dt * 100 for p, c in before.items()}
    of = lambda pids: sum(used[p] for p in pids)
    print(f'held host n={len(found)} queued_MiB={mem["queued"]:.1f} queue_exec_MiB={mem["queue-exec"]:.1f} '
          f'all_cpu_pct={sum(used.values()):.3f} daemons_cpu_pct={of(daemons):.3f} sessions_cpu_pct={of([*sessions, *inits]):.3f} secs={dt:.0f}')

if sys.argv[1:2] == ['hold']:
    hold(int(sys.argv[2]))
elif sys.argv[1:2] == ['measure']:
    measure(float(sys.argv[2]))
else:
    sys.exit(__doc__)
