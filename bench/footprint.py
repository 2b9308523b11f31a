#!/usr/bin/env python3
"""footprint.py idle SECONDS | session PID-OF-COMMAND

Run in a host. What Queue costs that host, from /proc:
  idle:     CPU of queued and queue-exec over SECONDS, and their resident memory; the session processes that wait
            for work are counted by themselves
  session:  memory of the session process and its init process, which are above a command
Rss counts shared pages (the program's own text, libraries) fully, Pss by share.
"""
import glob, os, sys, time

def read(path):
    try:
        return open(path).read()
    except OSError:
        return ''

def named(*names):
    """{pid: name}; a process is known by the file it executes, since it may call itself anything"""
    found = {}
    for d in glob.glob('/proc/[0-9]*'):
        try:
            exe = os.path.basename(os.readlink(d + '/exe')).removesuffix(' (deleted)')
        except OSError:
            continue
        if exe in names:
            found[int(d[6:])] = exe
    return found

def cpu_ns(pid):
    return sum(int(read(t).split()[0] or 0) for t in glob.glob(f'/proc/{pid}/task/*/schedstat') if read(t))

def memory(pid):
    """(Rss, Pss, private) in KiB"""
    v = {}
    for line in read(f'/proc/{pid}/smaps_rollup').splitlines()[1:]:
        key, value = line.split(':')
        v[key] = int(value.split()[0])
    return v.get('Rss', 0), v.get('Pss', 0), v.get('Private_Clean', 0) + v.get('Private_Dirty', 0)

def parent(pid):
    return int(read(f'/proc/{pid}/stat').rsplit(')', 1)[1].split()[1])

def idle(seconds):
    host = os.uname().nodename
    daemons = named('queued', 'queue-exec')
    if sorted(daemons.values()) != ['queue-exec', 'queued']:
        sys.exit(f'footprint.py: {host} runs {sorted(daemons.values())}, not one queued and one queue-exec')
    before, t = {p: cpu_ns(p) for p in daemons}, time.monotonic()
    time.sleep(seconds)
    dt = time.monotonic() - t
    cpu = sum(cpu_ns(p) - before[p] for p in daemons) / 1e9 / dt * 100
    rss = {n: sum(memory(p)[0] for p in daemons if daemons[p] == n) / 1024 for n in ('queued', 'queue-exec')}
    waiting = [sum(memory(p)[k] for p in named('queue-session')) / 1024 for k in (0, 1)]
    print(f'idle {host} cpu_pct={cpu:.3f} rss_MiB={sum(rss.values()):.1f} queued_MiB={rss["queued"]:.1f} '
          f'queue_exec_MiB={rss["queue-exec"]:.1f} waiting_sessions_rss_MiB={waiting[0]:.1f} '
          f'waiting_sessions_pss_MiB={waiting[1]:.1f} secs={dt:.0f}')

def session(command):
    init = parent(command)
    process = parent(init)
    for name, pid in (('session', process), ('init', init)):
        rss, pss, private = memory(pid)
        print(f'memory {name} rss_MiB={rss / 1024:.2f} '
              f'pss_MiB={pss / 1024:.2f} private_MiB={private / 1024:.2f}')

if __name__ == '__main__':
    if sys.argv[1:2] == ['idle']:
        idle(float(sys.argv[2]))
    elif sys.argv[1:2] == ['session']:
        session(int(sys.argv[2]))
    else:
        sys.exit(__doc__)
