#!/bin/bash
# peers.sh start PEER... | prefix PEER | tty PEER
#
# Starts what a peer needs in the hosts of hosts.sh, and prints the words which, put in front of a command in h1, run
# it on h2. Peers: local ssh ssh-mux ssh-gcm rsh queue, or NAME=WORDS for anything else.
set -u
# shellcheck source-path=SCRIPTDIR
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
HOSTS="h1 h2 h3"

listens() { on "$1" ss -ltnH "sport = :$2" | grep -q .; }
wait_tcp() { until_ok 20 "port $2 of $1" listens "$1" "$2"; }

start_ssh() {
  local pub h
  on h1 bash -c '[ -e /root/.ssh/id_ed25519 ] || { mkdir -p -m 700 /root/.ssh; ssh-keygen -q -t ed25519 -N "" -f /root/.ssh/id_ed25519; }'
  pub=$(on h1 cat /root/.ssh/id_ed25519.pub)
  for h in $HOSTS; do
    listens "$h" 22 && continue
    on "$h" bash -c "mkdir -p -m 700 /root/.ssh; grep -qF '$pub' /root/.ssh/authorized_keys 2>/dev/null || echo '$pub' >>/root/.ssh/authorized_keys
      chmod 600 /root/.ssh/authorized_keys; mkdir -p /run/sshd; ssh-keygen -A >/dev/null"
    on -d "$QB/$h/sshd.log" "$h" /usr/sbin/sshd -D -e
    wait_tcp "$h" 22 || return 1
    on h1 bash -c "echo $h \$(cat /etc/ssh/ssh_host_ed25519_key.pub) >>/root/.ssh/known_hosts"
  done
}
MUX='-o ControlMaster=auto -o ControlPath=/run/qb-mux-%h -o ControlPersist=3600'
start_ssh_mux() {
  start_ssh || return 1
  # shellcheck disable=SC2086 # words
  { on h1 ssh $MUX -fN h2 </dev/null 2>/dev/null; on h1 ssh $MUX h2 true; }
}
start_rsh() {
  listens h2 514 && return
  echo "514 stream tcp nowait root /usr/sbin/in.rshd in.rshd" >"$QB/shared/inetd.conf"
  # shellcheck disable=SC2016 # for the shell there
  on h2 bash -c 'for h in h1 h2 h3; do echo "$h root"; done >/root/.rhosts; chmod 600 /root/.rhosts'
  # -R 0: no limit of connections a minute
  on -d "$QB/h2/inetd.log" h2 /usr/sbin/inetd -i -R 0 "$QB/shared/inetd.conf"
  wait_tcp h2 514
}

# Ours: a cluster of the three hosts whose policy lets root in, as ssh and rsh do here. No PAM.
knows_all() { [ "$(on "$1" queue hosts 2>/dev/null | grep -cE '^h[123]\*? +up\b')" = 3 ]; }
start_queue() {
  local h
  knows_all h1 && return
  for h in $HOSTS; do
    # shellcheck disable=SC2016 # for the shell there
    on "$h" bash -c 'mkdir -p /etc/queue; printf "vouch * * root\npam no\n" >/etc/queue/exec.conf'
  done
  on h1 queued init --name bench --advertise "$NET.1" >"$QB/h1/init.log" 2>&1 || { cat "$QB/h1/init.log" >&2; return 1; }
  on -d "$QB/h1/queued.log" h1 queued run
  wait_tcp h1 7838 || { cat "$QB/h1/queued.log" >&2; return 1; }
  for h in h2 h3; do
    on h1 queued token |
      on "$h" queued join - --advertise "$NET.${h#h}" >"$QB/$h/join.log" 2>&1 || { cat "$QB/$h/join.log" >&2; return 1; }
    on -d "$QB/$h/queued.log" "$h" queued run
  done
  for h in $HOSTS; do
    until_ok 20 "$h to know all hosts" knows_all "$h" || { cat "$QB/$h/queued.log" >&2; return 1; }
  done
}

prefix() {
  case $1 in
  *=*) echo "${1#*=}" ;;
  local) echo "" ;;
  ssh) echo "ssh h2" ;;
  ssh-mux) echo "ssh $MUX h2" ;;
  ssh-gcm) echo "ssh -c aes128-gcm@openssh.com h2" ;;
  rsh) echo "rsh-redone-rsh h2" ;;
  queue) echo "queue -h h2 --" ;;
  *) echo "peers.sh: no peer $1" >&2; return 2 ;;
  esac
}
tty_prefix() { # the same, with a terminal on h2
  case $1 in
  ssh) echo "ssh -tt h2" ;;
  ssh-mux) echo "ssh -tt $MUX h2" ;;
  *) prefix "$1" ;;
  esac
}
need() { # PEER: start what it needs
  case $1 in
  *=* | local) ;;
  ssh | ssh-gcm) start_ssh ;;
  ssh-mux) start_ssh_mux ;;
  rsh) start_rsh ;;
  queue) start_queue ;;
  *) echo "peers.sh: no peer $1" >&2; return 2 ;;
  esac
}
if [ "${BASH_SOURCE[0]}" = "$0" ]; then
  cmd=${1:-}
  shift
  case $cmd in
  start) for p in "$@"; do need "$p" || exit 1; done ;;
  prefix) prefix "$1" ;;
  tty) tty_prefix "$1" ;;
  *) echo "usage: peers.sh start PEER... | prefix PEER | tty PEER" >&2; exit 2 ;;
  esac
fi
