# shellcheck shell=bash
# What the scripts of bench/ share. Sourced.
#
# QB: directory of all state. The hosts see it at the same path, so it must not lie where they have files of their own.
B=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
QB=${QB:-/opt/queue-bench}
export QB
export NET=10.77.0
# Namespaces and cgroups begin with this: two runs at once need a QB and a QB_NAME each.
QB_NAME=${QB_NAME:-qb}
export QB_NAME
case $QB in
/etc* | /var* | /root* | /home* | /run* | /tmp* | /srv*)
  echo "bench: QB=$QB would be hidden inside the hosts" >&2
  exit 1 ;;
esac

# CPU time is counted in a cgroup for each host: of version 1 if there is one, else of version 2.
if [ -d /sys/fs/cgroup/cpuacct ]; then CG=/sys/fs/cgroup/cpuacct; else CG=/sys/fs/cgroup; fi
export CG

on() { "$B/on.sh" "$@"; }

# until_ok SECONDS WHAT COMMAND...: waits for a condition.
until_ok() {
  local end=$((SECONDS + $1)) what=$2
  shift 2
  until "$@"; do
    [ "$SECONDS" -lt "$end" ] || { echo "bench: waited in vain for $what" >&2; return 1; }
    sleep 0.05
  done
}
