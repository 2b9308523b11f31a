#!/bin/bash
# placement.sh
# Prints the figures of placement in simulation, and fails if one is not what it must be: how evenly launches spread
# over hosts (30 launchers that look at once on 10 and on 1,000 hosts, with reports up to 5 s old; 200 launches at once
# on 3 hosts), the mean slowdown of commands that arrive by chance, beside that of simpler ways to choose a host, and
# how long a choice takes. Then thousands of histories in which nothing may be granted twice and all who wait must be
# served. Takes a few minutes; no root. Real hosts: place.sh.
set -eu
cd "$(dirname "$0")/.."
# The figures are written by the tests themselves; of the rest only failures are of interest.
cargo test --release --locked -q -p queued --lib -- --include-ignored --nocapture --test-threads 1 engine::herd |
  grep -vE '^(running|test result: ok|[.i]*$|$)'
