#!/usr/bin/env python3
"""table.py FILE...   the figures of launch.sh, echo.sh, throughput.sh, footprint.sh, idle.sh and place.sh beside what must be reached"""
import statistics, sys

rows = []
for path in sys.argv[1:]:
    for line in open(path):
        words = line.split()
        if words[:1] and words[0] in ('launch', 'echo', 'throughput', 'idle', 'memory', 'place', 'resume', 'held') and len(words) > 2:
            rows.append((words[0], words[1], dict(w.split('=', 1) for w in words[2:] if '=' in w)))

def get(kind, name, key, **where):
    """median over the rounds of a kind"""
    v = [float(d[key]) for k, n, d in rows
         if k == kind and n == name and key in d and all(d.get(a) == b for a, b in where.items())]
    return statistics.median(v) if v else None

def every(kind, key):
    return [float(d[key]) for k, _, d in rows if k == kind and key in d]

out = []
def ratio(what, ours, unit, peer, theirs, limit, at_least=False):
    if ours is None or theirs is None or not theirs:
        out.append((what, '-', f'{peer} -', '-', ('>= ' if at_least else '<= ') + f'{limit:.2f}', 'NOT MEASURED'))
        return
    r = ours / theirs
    ok = r >= limit if at_least else r <= limit
    out.append((what, f'{ours:.3g} {unit}', f'{peer} {theirs:.3g}', f'{r:.2f}',
                ('>= ' if at_least else '<= ') + f'{limit:.2f}', 'yes' if ok else 'NO'))

def absolute(what, ours, unit, limit, note=''):
    if ours is None:
        out.append((what, '-', note, '-', f'< {limit} {unit}', 'NOT MEASURED'))
        return
    out.append((what, f'{ours:.3g} {unit}', note, '-', f'< {limit} {unit}', 'yes' if ours < limit else 'NO'))

def cpu(name, direction):
    h1, h2 = (get('throughput', name, h, dir=direction) for h in ('h1', 'h2'))
    return None if h1 is None or h2 is None else h1 + h2

launch = lambda n, k: get('launch', n, k)
ratio('launch p50', launch('queue', 'p50_ms'), 'ms', 'rsh', launch('rsh', 'p50_ms'), 0.60)
ratio('launch p50', launch('queue', 'p50_ms'), 'ms', 'ssh warm', launch('ssh-mux', 'p50_ms'), 0.45)
ratio('launch p99', launch('queue', 'p99_ms'), 'ms', 'rsh', launch('rsh', 'p99_ms'), 1.00)
for d, text in (('to', 'stream to h2'), ('from', 'stream from h2')):
    rate = lambda n: get('throughput', n, 'MB_s', dir=d)
    ratio(text, rate('queue'), 'MB/s', 'ssh aes128-gcm', rate('ssh-gcm'), 1.20, at_least=True)
    ratio(text + ', CPU', cpu('queue', d), 's/GiB', 'ssh', cpu('ssh', d), 0.65)
for d, text in (('to', 'stream to h2'), ('from', 'stream from h2')):
    rate = lambda n: get('throughput', n, 'MB_s', dir=d)
    ratio(text + ', kept for a resume', rate('queue'), 'MB/s', 'not kept', rate('queue-unkept'), 0.95, at_least=True)
absolute('goes on after a healed cut', max(every('resume', 'max_ms'), default=None), 'ms', 300, 'slowest')
for p in ('p50_ms', 'p99_ms'):
    ratio('echo ' + p[:3], get('echo', 'queue', p), 'ms', 'ssh', get('echo', 'ssh', p), 1.00)
absolute('idle CPU, queued + queue-exec', max(every('idle', 'cpu_pct'), default=None), '%', 0.2, 'busiest of 3 hosts')
absolute('memory, queued + queue-exec', max(every('idle', 'rss_MiB'), default=None), 'MiB', 30, 'Rss, largest of 3 hosts')
waiting = [float(d['rss_MiB']) + float(d['waiting_sessions_rss_MiB']) for k, _, d in rows if k == 'idle']
absolute('the same with sessions kept ready', max(waiting, default=None), 'MiB', 30, 'Rss, shared pages many times')
for key in ('pss_MiB', 'rss_MiB'):
    v = [get('memory', n, key) for n in ('session', 'init')]
    absolute('memory of a session with its init', sum(v) if None not in v else None, 'MiB', 3, key[:3].capitalize())

alone = [x for x in (get('held', w, 'p50_ms') for w in ('alone', 'alone-again')) if x]
ratio('launch p50 beside 1,000 idle sessions', get('held', 'with', 'p50_ms'), 'ms', 'without', max(alone, default=None), 1.10)
v = [get('held', n, 'pss_MiB') for n in ('session', 'init')]
absolute('memory of each of those with its init', sum(v) if None not in v else None, 'MiB', 0.6, 'Pss')
absolute('CPU of all of those and of the daemons', get('held', 'host', 'all_cpu_pct'), '%', 1)

for name, limit in (('idle', 15), ('loads', 20), ('cores', 20), ('power', 20)):
    weights = {d['weights'] for k, w, d in rows if (k, w, d.get('case')) == ('place', 'shares', name)}
    absolute(f'200 launches at once, {name}: off', get('place', 'shares', 'off_pct', case=name), '%', limit, ' '.join(weights))
plus = [get('place', 'plus', 'p50_ms', peer=p) for p in ('any', 'named')]
absolute('launch on + over a named host, p50', plus[0] - plus[1] if None not in plus else None, 'ms', 0.5)
ratio('launch p50, a host of 3 a black hole', get('place', 'launches', 'p50_ms', case='black-hole'), 'ms', 'before',
      get('place', 'launches', 'p50_ms', case='before'), 1.15)
absolute('slowest of those', get('place', 'launches', 'max_ms', case='black-hole'), 'ms', 1000)
for what, limit in (('unplugged', 10), ('killed', 10), ('stopped', 1), ('drained', 1), ('returned', 10), ('healed', 10)):
    absolute(f'known everywhere: {what}', get('place', 'known', 'seconds', what=what), 's', limit)

head = ('what', 'queue', 'peer', 'ratio', 'must be', 'reached')
width = [max(len(r[i]) for r in [head, *out]) for i in range(6)]
for r in [head, tuple('-' * w for w in width), *out]:
    print('| ' + ' | '.join(c.ljust(w) for c, w in zip(r, width)) + ' |')
bad = [d for k, _, d in rows if d.get('bytes') == 'WRONG' or d.get('fail', '0') != '0' or d.get('lost', '0') != '0']
if bad:
    print(f'{len(bad)} measurements lost bytes or failed: see the files')
    sys.exit(1)
