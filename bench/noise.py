#!/usr/bin/env python3
"""noise.py [--wait SECONDS] [--max PCT]   waits (bounded) until the machine is quiet, prints what it saw
As a module: Noise() ... .line() tells how much CPU others (neither host of hosts.sh nor this
process and its children) and the hypervisor took meanwhile."""
import glob, os, sys, time

HZ = os.sysconf('SC_CLK_TCK')
NCPU = os.cpu_count() or 1
NAME = os.environ.get('QB_NAME', 'qb')
V1 = f'/sys/fs/cgroup/cpuacct/{NAME}-h*/cpuacct.usage'
V2 = f'/sys/fs/cgroup/{NAME}-h*/cpu.stat'

def stat():
    f = [int(x) for x in open('/proc/stat').readline().split()[1:]]
    return (f[0] + f[1] + f[2] + f[5] + f[6]) / HZ, f[7] / HZ  # busy, steal

def host_cpu():
    """{host: CPU seconds} of the hosts of hosts.sh"""
    d = {}
    for p in glob.glob(V1) or glob.glob(V2):
        try:
            text = open(p).read()
        except OSError:
            continue
        host = p.split('/')[-2][len(NAME) + 1:]
        d[host] = int(text) / 1e9 if p.endswith('usage') else int(text.split()[1]) / 1e6
    return d

def in_host():
    try:
        return f'{NAME}-h' in open('/proc/self/cgroup').read()
    except OSError:
        return False

class Noise:
    def __init__(self):
        self.t = time.monotonic(); self.s = stat(); self.h = host_cpu(); self.o = sum(os.times()[:4])
    def sample(self):
        dt = time.monotonic() - self.t
        busy, steal = (b - a for a, b in zip(self.s, stat()))
        own = sum(v - self.h.get(k, 0) for k, v in host_cpu().items())
        if not in_host():
            own += sum(os.times()[:4]) - self.o
        return dt, busy, steal, own
    def line(self):
        dt, busy, steal, own = self.sample()
        return (f'others_cpu_pct={max(0, busy - own) / dt / NCPU * 100:.0f} steal_pct={steal / dt / NCPU * 100:.0f} '
                f'secs={dt:.1f}')

class Patience:
    """On a machine shared with others: wait() until others use at most QB_MAX_NOISE (15) percent of
    the CPU, accept(noise) says whether a piece of work was done in such quiet; both give up and take
    what there is once QB_PATIENCE (0) seconds have been spent on waiting and on repeats."""
    def __init__(self):
        self.left = float(os.environ.get('QB_PATIENCE', 0)); self.max = float(os.environ.get('QB_MAX_NOISE', 15))
        self.pct = []; self.rejected = 0
    def wait(self):
        while self.left > 0:
            n = Noise(); time.sleep(0.3)
            dt, busy, steal, own = n.sample()
            if (busy - own) / dt / NCPU * 100 <= self.max:
                return
            self.left -= dt
    def accept(self, n):
        dt, busy, steal, own = n.sample()
        pct = max(0, busy - own) / dt / NCPU * 100
        if pct > self.max and self.left > 0 and dt > 0.05:
            self.left -= dt; self.rejected += 1
            return False
        self.pct.append((pct, dt))
        return True
    def line(self):
        t = sum(d for _, d in self.pct) or 1
        return f'others_cpu_pct={sum(p * d for p, d in self.pct) / t:.0f} retried={self.rejected}'

if __name__ == '__main__':
    import argparse
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument('--wait', type=float, default=0)
    ap.add_argument('--max', type=float, default=10)
    a = ap.parse_args()
    end = time.monotonic() + a.wait
    while True:
        n = Noise(); time.sleep(3)
        dt, busy, steal, own = n.sample()
        pct = (busy - own) / dt / NCPU * 100
        if pct <= a.max or time.monotonic() > end:
            break
    print(f'noise others_cpu_pct={pct:.0f} {"quiet" if pct <= a.max else "BUSY"} load={open("/proc/loadavg").read().split()[0]}')
    sys.exit(pct > a.max)
