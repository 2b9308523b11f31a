#!/bin/bash
# on.sh [-d LOG] hK COMMAND [ARG...]
# Runs COMMAND as root in host K of hosts.sh, with its exit status.
#   -d LOG  detached: a new session, output to LOG (path as the machine sees it)
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh"
log=
while getopts d: o; do case $o in d) log=$OPTARG ;; *) exit 2 ;; esac; done
shift $((OPTIND - 1))
k=${1#h}
shift
pid=$(cat "$QB/h$k/pid" 2>/dev/null) || { echo "on.sh: h$k is not up" >&2; exit 125; }
[ -w "$CG/$QB_NAME-h$k/cgroup.procs" ] && echo $$ >"$CG/$QB_NAME-h$k/cgroup.procs"
unset SSH_AUTH_SOCK TMPDIR XDG_RUNTIME_DIR
export HOME=/root USER=root LOGNAME=root PATH="$QB/queue/bin:$PATH:/usr/sbin:/sbin"
ns=(nsenter -t "$pid" --mount --uts --ipc --net --pid)
if [ -n "$log" ]; then
  setsid "${ns[@]}" "$@" </dev/null >>"$log" 2>&1 &
  exit 0
fi
exec "${ns[@]}" "$@"
