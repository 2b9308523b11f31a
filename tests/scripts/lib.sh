# shellcheck shell=sh
# What the scripts share. Sourced with the working directory at the top of the tree.

# The name of the running script goes in front of what it says.
me=${0##*/}

say() { printf '%s: %s\n' "$me" "$*" >&2; }
die() { say "$*"; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# Programs that cargo installs.
PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin:/usr/local/sbin:/usr/sbin:/sbin
export PATH
CARGO=${CARGO:-cargo}
# shellcheck disable=SC2034 # for the scripts
target=${CARGO_TARGET_DIR:-$PWD/target}

# The toolchain cannot be installed for people: that choice is theirs.
need_cargo() {
	have "$CARGO" || die "no $CARGO here: install Rust 1.95 or later (https://rustup.rs), then again"
	have cc || need_packages gcc libc6-dev
}

# root, or through sudo where that needs no password (a script that waits for one helps nobody in CI).
as_root() {
	if [ "$(id -u)" = 0 ]; then
		"$@"
	elif have sudo && { [ -t 0 ] || sudo -n true 2>/dev/null; }; then
		sudo "$@"
	else
		return 126
	fi
}

# Debian packages, those that are not there yet.
need_packages() {
	have dpkg-query || { say "not a Debian machine: make sure that these are installed: $*"; return 0; }
	missing=
	for p in "$@"; do
		case $(dpkg-query -W -f '${Status}' "$p" 2>/dev/null) in
		*' installed') ;;
		*) missing="$missing $p" ;;
		esac
	done
	[ -n "$missing" ] || return 0
	say "installing$missing"
	# shellcheck disable=SC2086 # a list of words
	{ as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq &&
		as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $missing \
			</dev/null >/dev/null; } ||
		die "cannot install$missing: do it as root (apt-get install$missing), then again"
}
