#!/bin/bash
# membership.sh [-a]
# Prints what membership and load reports cost, in simulation: 100 and 1,000 hosts with 0, 2, 5 and 10 % of all
# datagrams lost; with -a also 10,000 hosts with 0 and 5 % (ten minutes and 5 GiB). Bandwidth counts the headers of IP
# and UDP, and the seal. QUEUE_SWARM_HOSTS and QUEUE_SWARM_LOSS choose other lines.
set -eu
cd "$(dirname "$0")/.."
table() {
  cargo test --release --locked -q -p queued --lib -- --ignored --nocapture --exact engine::sim::swarm::table |
    grep -E '^ +([0-9]|hosts|kbit)'
}
table
if [ "${1:-}" = -a ]; then
  QUEUE_SWARM_HOSTS=10000 QUEUE_SWARM_LOSS="0 5" table
fi
