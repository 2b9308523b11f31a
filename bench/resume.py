#!/usr/bin/env python3
"""resume.py -n ROUNDS -s SECONDS --cut CMD --heal CMD -- QUEUE...   how soon a session goes on after a healed cut

Runs a command through QUEUE that counts, a line every 10 ms, cuts its host off for SECONDS, heals, and takes the time from
the end of CMD to the first line that comes. Checks that no number is missing and none comes twice."""
import argparse, subprocess, sys, threading, time

p = argparse.ArgumentParser()
p.add_argument('-n', type=int, default=5)
p.add_argument('-s', type=float, default=5)
p.add_argument('--cut', required=True)
p.add_argument('--heal', required=True)
words = sys.argv[1:]
at = words.index('--')
a = p.parse_args(words[:at])
prefix = words[at + 1:]
COUNT = 'import sys,time\nn=0\nwhile True:\n print(n,flush=True); n+=1; time.sleep(0.01)'
child = subprocess.Popen(prefix + ['python3', '-c', COUNT], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
lines, wrong = [], []

def read():
    want = 0
    for line in child.stdout:
        lines.append(time.monotonic())
        if line != b'%d\n' % want:
            wrong.append(line)
        want += 1

reader = threading.Thread(target=read, daemon=True)
reader.start()

def wait(what, done, limit):
    end = time.monotonic() + limit
    while not done():
        if time.monotonic() > end or child.poll() is not None:
            sys.exit(f'resume.py: {what}: not within {limit} s')
        time.sleep(0.0005)

wait('the first line', lambda: len(lines) > 50, 20)
took = []
for _ in range(a.n):
    subprocess.run(a.cut, shell=True, check=True)
    time.sleep(a.s)
    before = len(lines)
    start = time.monotonic()
    subprocess.run(a.heal, shell=True, check=True)
    healed = time.monotonic()
    wait('a line after the cut', lambda: len(lines) > before, 30)
    took.append((lines[before] - healed) * 1e3)
    at = len(lines)
    wait('some more', lambda: len(lines) > at + 100, 20)
child.kill()
took.sort()
print(f'resume healed cut_s={a.s:g} n={len(took)} p50_ms={took[len(took) // 2]:.0f} max_ms={took[-1]:.0f} '
      f'lines={len(lines)} wrong={len(wrong)}')
sys.exit(1 if wrong else 0)
