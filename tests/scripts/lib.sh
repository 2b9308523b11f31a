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

# unpack_package NAME FILE DIR
# A Debian package and what it needs, unpacked but not installed: no service of it runs, and it takes nobody's place.
# FILE: it is done when this is there.
unpack_package() {
	[ ! -e "$3/$2" ] && [ ! -e "/$2" ] || return 0
	have apt-get || { say "not a Debian machine: make sure that there is /$2"; return 0; }
	say "unpacking $1 into $3"
	rm -rf "$3.new" && mkdir -p "$3.new/debs/partial" "$3.new/root"
	new=$(cd "$3.new" && pwd)
	download() {
		apt-get install -qq -y --no-install-recommends --download-only -o APT::Sandbox::User=root \
			-o Debug::NoLocking=1 -o Dir::Cache::archives="$new/debs" "$1" </dev/null >/dev/null
	}
	download "$1" 2>/dev/null || { as_root apt-get update -qq && download "$1"; } ||
		die "cannot download the package $1"
	for deb in "$new"/debs/*.deb; do
		dpkg-deb -x "$deb" "$new/root" || die "cannot unpack $deb"
	done
	[ -e "$new/root/$2" ] || die "the package $1 has no /$2"
	rm -rf "$3" && mv "$new/root" "$3" && rm -rf "$new"
}
