#!/bin/bash
# real-systemd.sh CHECKOUT JOB: boots a real systemd as PID 1 of its own pid, mount, cgroup, ipc, uts and network
# namespaces over a throw-away overlay of / , with CHECKOUT read-only at /shmlink and the user manager of a user
# "shmtester" made for it. JOB, a path inside, then runs as root; its output is ours, and systemd powers off.
# Needs root, cgroup v2 (unified, or hybrid with /sys/fs/cgroup/unified), overlayfs. Leaves nothing behind.
set -eu
checkout=$(readlink -f "$1")
job=$2
export user=shmtester uid=4242 checkout job
if [ -d /sys/fs/cgroup/unified ]; then cgroups=/sys/fs/cgroup/unified; else cgroups=/sys/fs/cgroup; fi
cgroup=$cgroups/shmlink-test-$$
work=$(mktemp -d /tmp/shmlink-systemd.XXXXXX)
console=$(mktemp /tmp/shmlink-console.XXXXXX)
export work console
mkdir "$cgroup"

cleanup() {
  # The kernel removes the dead processes a moment after they are gone.
  for _ in $(seq 100); do
    find "$cgroup" -depth -type d -exec rmdir {} \; 2>/dev/null || true
    [ -d "$cgroup" ] || break
    sleep 0.05
  done
  rm -rf "$work" "$console"
}
trap cleanup EXIT

cat >"$work/inside.sh" <<'INSIDE'
set -eu
mount --make-rprivate /
mount -t tmpfs tmpfs "$work"
mkdir "$work/upper" "$work/work" "$work/root"
root=$work/root
mount -t overlay -o "lowerdir=/,upperdir=$work/upper,workdir=$work/work" overlay "$root"

# a user with a manager of its own, which starts without a login
echo "$user:x:$uid:$uid::/home/$user:/bin/bash" >>"$root/etc/passwd"
echo "$user:x:$uid:" >>"$root/etc/group"
echo "$user:*:19000:0:99999:7:::" >>"$root/etc/shadow"
mkdir -p "$root/home/$user" "$root/var/lib/systemd/linger"
chown $uid:$uid "$root/home/$user"
touch "$root/var/lib/systemd/linger/$user"

# nothing but what the job needs
units=$root/etc/systemd/system
rm -rf "$units"/*.wants "$root"/etc/systemd/user/*.wants
rm -f "$root"/lib/systemd/system/multi-user.target.wants/{plymouth*,getty*}
for unit in systemd-udevd.service systemd-udev-trigger.service getty.target systemd-resolved.service \
  systemd-networkd.service systemd-timesyncd.service apt-daily.timer systemd-firstboot.service; do
  ln -sf /dev/null "$units/$unit"
done
cat >"$units/job.service" <<S
[Unit]
After=user@$uid.service multi-user.target
Wants=user@$uid.service
SuccessAction=exit-force
FailureAction=exit-force
[Service]
Type=oneshot
ExecStart=/bin/bash $job
StandardOutput=file:/dev/console
StandardError=file:/dev/console
S
printf '[Unit]\nRequires=multi-user.target job.service\n' >"$units/job.target"
ln -sf job.target "$units/default.target"
mkdir -p "$root/etc/systemd/system.conf.d"
printf '[Manager]\nDefaultTimeoutStopSec=5s\n' >"$root/etc/systemd/system.conf.d/test.conf"

mkdir -p "$root/shmlink"
mount --bind -o ro "$checkout" "$root/shmlink"
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
mkdir "$root/dev/shm" "$root/dev/pts"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
for device in null zero full random urandom tty; do
  touch "$root/dev/$device"
  mount --bind "/dev/$device" "$root/dev/$device"
done
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
touch "$root/dev/console"
mount --bind "$console" "$root/dev/console"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
cd "$root"
mkdir -p .old
pivot_root . .old
umount -l /.old
exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin \
  /lib/systemd/systemd --system --log-target=console --log-level=warning --show-status=no \
  </dev/null >/dev/console 2>&1
INSIDE

status=0
(
  echo $BASHPID >"$cgroup/cgroup.procs"
  exec timeout -k 5 "${TIMEOUT_S:-120}" \
    unshare --pid --fork --mount --cgroup --ipc --uts --net --kill-child bash "$work/inside.sh"
) || status=$?
cat "$console"
echo "systemd ended with $status"
