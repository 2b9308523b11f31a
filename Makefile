# Queue: build, test, show, install. `make help` lists the goals.

PREFIX  ?= /usr/local
DESTDIR ?=
CARGO   ?= cargo
# `release` is what is installed; `ci` is quicker to build and checks itself (make demo PROFILE=ci).
PROFILE ?= release
# Cargo features of what is built and installed: FEATURES=queue-session/pam with PAM (needs libpam0g-dev).
FEATURES ?=

TARGET   = $(or $(CARGO_TARGET_DIR),$(CURDIR)/target)
BUILT    = $(TARGET)/$(PROFILE)
bindir   = $(DESTDIR)$(PREFIX)/bin
libdir   = $(DESTDIR)$(PREFIX)/lib/queue
mandir   = $(DESTDIR)$(PREFIX)/share/man
docdir   = $(DESTDIR)$(PREFIX)/share/doc/queue
# systemd, sysusers and tmpfiles look below /usr and /usr/local alike.
unitdir  = $(DESTDIR)$(PREFIX)/lib/systemd/system
usersdir = $(DESTDIR)$(PREFIX)/lib/sysusers.d
tmpdir   = $(DESTDIR)$(PREFIX)/lib/tmpfiles.d
# Completions, where the shells look. Of /usr/local bash and zsh know, but Debian's fish does not: it looks into /etc.
# Debian's zsh calls its directory below /usr otherwise than zsh does.
bashdir  = $(DESTDIR)$(PREFIX)/share/bash-completion/completions
ZSHDIR  ?= $(or $(if $(filter /usr,$(PREFIX)),$(wildcard /usr/share/zsh/vendor-completions)),$(PREFIX)/share/zsh/site-functions)
FISHDIR ?= $(if $(filter /usr/local,$(PREFIX)),/etc/fish/completions,$(PREFIX)/share/fish/vendor_completions.d)
zshdir   = $(DESTDIR)$(ZSHDIR)
fishdir  = $(DESTDIR)$(FISHDIR)
INSTALL  = install

BIN      = queue queued
LIB      = queue-exec queue-session
# Programs that are completed as queue is, by the same files.
ALIKE    = qsh queue-sh queued

export CARGO

.PHONY: all build check demo bench install uninstall clean help

all: build

# The front end does not use the name service itself (queue/src/whoami.rs), so it needs no dynamic linking, and starts a third faster without it
# (0.73 against 1.09 ms for `queue --version`). STATIC= builds it as the others.
STATIC ?= -C target-feature=+crt-static -C relocation-model=static

build:
	$(CARGO) build --locked --profile $(PROFILE) $(addprefix -p ,queued queue-exec queue-session) $(if $(FEATURES),--features $(FEATURES))
	$(CARGO) rustc --locked --profile $(PROFILE) -p queue --bin queue -- $(STATIC)

help:
	@echo 'make                       build (PROFILE=release)'
	@echo 'make check                 install what the tests need, run them all'
	@echo 'make demo                  three hosts on this machine, a few commands on them, all taken down again'
	@echo 'make bench                 measure Queue beside rsh and ssh (root)'
	@echo 'make install PREFIX= DESTDIR=   install; make uninstall takes it away again'

check:
	@tests/scripts/check

demo:
	@PROFILE=$(PROFILE) contrib/demo

bench:
	@bench/run.sh

install: build
	$(INSTALL) -d $(bindir) $(libdir) $(mandir)/man1 $(mandir)/man5 $(mandir)/man8 $(docdir)/examples \
		$(unitdir) $(usersdir) $(tmpdir) $(bashdir) $(zshdir) $(fishdir)
	set -e; for f in $(BIN); do $(INSTALL) -m 755 $(BUILT)/$$f $(bindir)/$$f; done
	set -e; for f in $(LIB); do $(INSTALL) -m 755 $(BUILT)/$$f $(libdir)/$$f; done
	ln -sf queue $(bindir)/qsh
	ln -sf queue $(bindir)/queue-sh
	set -e; for f in man/*.[158]; do $(INSTALL) -m 644 $$f $(mandir)/man$${f##*.}/; done
	ln -sf queue.1 $(mandir)/man1/queue-sh.1
	set -e; for f in queued queue-exec; do \
		sed 's|@PREFIX@|$(PREFIX)|g' contrib/systemd/$$f.service >$(unitdir)/$$f.service; \
		chmod 644 $(unitdir)/$$f.service; done
	$(INSTALL) -m 644 contrib/completions/queue.bash $(bashdir)/queue
	$(INSTALL) -m 644 contrib/completions/_queue $(zshdir)/_queue
	$(INSTALL) -m 644 contrib/completions/queue.fish $(fishdir)/queue.fish
	set -e; for f in $(ALIKE); do ln -sf queue $(bashdir)/$$f; ln -sf queue.fish $(fishdir)/$$f.fish; done
	$(INSTALL) -m 644 contrib/sysusers.d/queue.conf $(usersdir)/queue.conf
	$(INSTALL) -m 644 contrib/tmpfiles.d/queue.conf $(tmpdir)/queue.conf
	$(INSTALL) -m 644 contrib/queued.toml contrib/exec.conf $(docdir)/examples/
	$(INSTALL) -m 644 contrib/pam.d/queue $(docdir)/examples/pam.d-queue
	$(INSTALL) -m 644 README.md ARCHITECTURE.md SECURITY.md CHANGELOG.md LICENSE-MIT LICENSE-APACHE $(docdir)/

# Configuration (/etc/queue) and state (/var/lib/queue) are the site's and stay.
uninstall:
	rm -f $(addprefix $(bindir)/,$(BIN) qsh queue-sh) $(addprefix $(libdir)/,$(LIB))
	rm -f $(foreach f,$(notdir $(wildcard man/*.[158])) queue-sh.1,$(mandir)/man$(subst .,,$(suffix $(f)))/$(f))
	rm -f $(unitdir)/queued.service $(unitdir)/queue-exec.service $(usersdir)/queue.conf $(tmpdir)/queue.conf
	rm -f $(addprefix $(bashdir)/,queue $(ALIKE)) $(zshdir)/_queue $(addprefix $(fishdir)/,$(addsuffix .fish,queue $(ALIKE)))
	rm -rf $(docdir)
	-rmdir $(libdir)

clean:
	$(CARGO) clean
