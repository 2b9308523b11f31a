#!/bin/bash
# hosts.sh up N | down | status
#
# Makes N "hosts" h1..hN on this machine, each a set of Linux namespaces (net, uts, mount, pid, ipc):
#   - network: 10.77.0.K/24 on a bridge in a namespace of its own (QB_NAME-sw), no route further: nothing leaves it, and
#     the machine's own network gets no link, address or route;
#   - a PID 1 of its own: killing that one process ends the host with everything in it;
#   - /etc /var /root /home /srv are overlays over the machine's own, /run /tmp /dev/shm /dev/pts are private;
#   - $QB/shared is seen by all at the same path;
#   - the CPU time of everything in host K is counted in a cgroup QB_NAME-hK.
# The hosts of the tests (tests/harness) can do more; these measure more.
# `up N` starts what is missing, `down` removes every trace.
set -u
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh"
die() { echo "hosts.sh: $*" >&2; exit 1; }
[ "$(id -u)" = 0 ] || die "needs root"

alive() { # K: is the first process of host K there?
  local p
  p=$(cat "$QB/h$1/pid" 2>/dev/null) || return 1
  [ -n "$p" ] && [ "$(cat "/proc/$p/comm" 2>/dev/null)" = sleep ] &&
    [ "$(readlink "/proc/$p/ns/uts")" != "$(readlink /proc/self/ns/uts)" ]
}

up_switch() {
  [ -e "/run/netns/$QB_NAME-sw" ] || ip netns add "$QB_NAME-sw" || die "ip netns add"
  ip -n "$QB_NAME-sw" link show br0 >/dev/null 2>&1 && return
  ip -n "$QB_NAME-sw" link add br0 type bridge || die "bridge"
  ip -n "$QB_NAME-sw" link set br0 type bridge stp_state 0 forward_delay 0
  ip -n "$QB_NAME-sw" link set br0 up
  ip -n "$QB_NAME-sw" link set lo up
}

first_process() { # K: the process that heads the pid namespace of host K
  local q net
  net="net:[$(stat -Lc %i "/run/netns/$QB_NAME-h$1")]"
  for q in $(pgrep -x sleep); do
    [ "$(readlink "/proc/$q/ns/net" 2>/dev/null)" = "$net" ] &&
      [ "$(awk '/^NSpid:/{print $NF}' "/proc/$q/status" 2>/dev/null)" = 1 ] && echo "$q" && return
  done
  return 1
}

up_host() { # K
  local k=$1 d=$QB/h$1
  alive "$k" && return
  mkdir -p "$d" || die "mkdir $d"
  ip netns del "$QB_NAME-h$k" 2>/dev/null
  ip netns add "$QB_NAME-h$k" || die "netns h$k"
  ip link add "qbt$k" netns "$QB_NAME-sw" type veth peer name eth0 netns "$QB_NAME-h$k" || die "veth h$k"
  ip -n "$QB_NAME-sw" link set "qbt$k" master br0 up
  ip -n "$QB_NAME-h$k" link set lo up
  ip -n "$QB_NAME-h$k" addr add "$NET.$k/24" dev eth0
  ip -n "$QB_NAME-h$k" link set eth0 up
  mkdir -p "$d"/{run,tmp} "$d"/up/{etc,var,root,home,srv} "$d"/wk/{etc,var,root,home,srv}
  chmod 1777 "$d/tmp"
  mkdir -p "$CG/$QB_NAME-h$k"
  # shellcheck disable=SC2016 # for the shell there
  K=$k nsenter --net=/run/netns/"$QB_NAME-h$k" \
    unshare --mount --uts --ipc --pid --fork --propagation private \
    bash -c '
      d=$QB/h$K
      for t in etc var root home srv; do
        mount -t overlay qb -o "lowerdir=/$t,upperdir=$d/up/$t,workdir=$d/wk/$t" "/$t" || exit 1
      done
      mount --bind "$d/run" /run; mkdir -p /run/lock /run/user; chmod 1777 /run/lock
      mount --bind "$d/tmp" /tmp
      mount -t tmpfs -o mode=1777 shm /dev/shm
      mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts /dev/pts
      mount -t proc proc /proc
      hostname "h$K"; echo "h$K" >/etc/hostname
      # The machine'\''s own start-up files would be charged to every remote command of ssh and rsh.
      rm -f /root/.bashrc /root/.profile /root/.bash_profile; : >/root/.bashrc
      # Queue of the machine itself, if there is one, is none of these hosts'\''.
      rm -rf /etc/queue /var/lib/queue
      : >/run/qb-ready
      exec env --ignore-signal=CHLD sleep infinity' </dev/null >"$d/log" 2>&1 &
  disown
  until_ok 10 "h$k" test -e "$d/run/qb-ready" || { cat "$d/log" >&2; die "h$k did not start"; }
  until_ok 10 "h$k's first process" first_process "$k" >"$d/pid" || die "h$k has no first process"
  rm -f "$d/run/qb-ready"
}

down_host() { # K
  local k=$1
  if alive "$k"; then
    local p
    p=$(cat "$QB/h$k/pid")
    kill -9 "$p"
    until_ok 10 "the end of h$k" test ! -d "/proc/$p"
  fi
  ip netns del "$QB_NAME-h$k" 2>/dev/null
  # Groups that somebody in the host made inside go first.
  [ ! -d "$CG/$QB_NAME-h$k" ] || until_ok 5 "cgroup of h$k to be empty" gone_cgroup "$CG/$QB_NAME-h$k"
}
gone_cgroup() { find "$1" -depth -type d -exec rmdir {} + 2>/dev/null; [ ! -d "$1" ]; }

case ${1:-} in
up)
  n=${2:-3}
  { [ "$n" -ge 1 ] && [ "$n" -le 200 ]; } || die "up N"
  mkdir -p "$QB/shared"
  chmod 1777 "$QB/shared"
  up_switch
  for ((k = 1; k <= n; k++)); do up_host "$k"; done
  for ((k = 1; k <= n; k++)); do
    { echo "127.0.0.1 localhost"; for ((j = 1; j <= n; j++)); do echo "$NET.$j h$j"; done; } |
      nsenter -t "$(cat "$QB/h$k/pid")" --mount sh -c 'rm -f /etc/hosts; cat >/etc/hosts'
  done ;;
down)
  for d in "$QB"/h[0-9]*; do
    [ ! -d "$d" ] || down_host "${d##*/h}"
  done
  ip netns del "$QB_NAME-sw" 2>/dev/null
  rm -rf --one-file-system "$QB"/h[0-9]* "$QB/shared" "$QB/queue" "$QB/lock"
  rmdir "$QB" 2>/dev/null
  true ;;
status)
  for d in "$QB"/h[0-9]*; do
    [ -d "$d" ] || continue
    k=${d##*/h}
    if alive "$k"; then echo "h$k up $NET.$k pid $(cat "$d/pid")"; else echo "h$k down"; fi
  done ;;
*)
  echo "usage: hosts.sh up N | down | status" >&2
  exit 2 ;;
esac
