#!/bin/bash
# echo.sh [-n N] [-r ROUNDS] [PEER...]   keystroke to echo through a terminal on h2 (program: raw `cat`)
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/peers.sh"
n=2000 r=3
while getopts n:r: o; do case $o in n) n=$OPTARG ;; r) r=$OPTARG ;; *) exit 2 ;; esac; done
shift $((OPTIND - 1))
[ $# = 0 ] && set -- local ssh queue
cat >"$QB/shared/rawcat" <<'X'
#!/bin/sh
stty raw -echo; echo QB-READY; exec cat
X
chmod 755 "$QB/shared/rawcat"
for p in "$@"; do need "$p" || echo "echo ${p%%=*} unavailable"; done
for ((i = 0; i < r; i++)); do
  for p in "$@"; do
    # shellcheck disable=SC2046 # words
    on h1 python3 "$B/echo_latency.py" -n "$n" --label "${p%%=*}" --ready QB-READY -- $(tty_prefix "$p") "$QB/shared/rawcat"
  done
done
