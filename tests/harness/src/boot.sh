# Runs as PID 1 of a new host, in its new namespaces.  Machine's file system around it.
#   D       the host's directory (up/ work/ tmp/ loadavg)
#   SHARED  the directory that all hosts share
#   HOMES   if set: the shared home directories
#   CGROUP  if set: mount the host's cgroup hierarchy
# Says "ready PID" (the number that the machine sees) on stdout when the host is usable.
set -eu
# Before /proc is replaced: it still shows numbers of the machine's namespace.
read -r pid rest </proc/self/stat
mount -n --make-rprivate /
for t in etc var root home srv; do
	[ -d "/$t" ] || continue
	mount -n -t overlay -o "lowerdir=/$t,upperdir=$D/up/$t,workdir=$D/moving/$t" overlay "/$t"
done
if [ -n "$HOMES" ]; then mount -n --bind "$HOMES" /home; fi
if [ -d /srv ]; then
	mkdir -p /srv/shared
	mount -n --bind "$SHARED" /srv/shared
fi
mount -n -t tmpfs -o mode=755 tmpfs /run
mkdir -m 1777 /run/lock
mkdir /run/user
mount -n --bind "$D/tmp" /tmp
mount -n -t tmpfs -o mode=1777 tmpfs /dev/shm
mount -n -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts /dev/pts
if [ -n "$CGROUP" ]; then mount -n -t cgroup2 cgroup2 /sys/fs/cgroup; fi
mount -n -t proc proc /proc
mount -n --bind "$D/loadavg" /proc/loadavg
cat /proc/sys/kernel/random/uuid >/run/boot_id
mount -n --bind /run/boot_id /proc/sys/kernel/random/boot_id
cd /
echo "ready $pid"
# PID 1 that ignores SIGCHLD: the kernel reaps orphans by itself.
exec env --ignore-signal=CHLD sleep infinity >/dev/null
