#!/bin/bash
# Runs as root inside real-systemd.sh: enables the system socket unit, and asks the broker as root and as another user.
# Prints lines "name=value" for activation.test.ts.
cd /
shmlink=${SHMLINK:-/shmlink/bin/shmlink}
for unit in shmlink.socket shmlink.service; do
  sed "s|@SHMLINK@|$shmlink|" "/shmlink/systemd/system/$unit" >"/etc/systemd/system/$unit"
done
systemctl daemon-reload
systemctl enable --now shmlink.socket
export SHMLINK_SOCKET=/run/shmlink/broker.sock
listing=$(/shmlink/bin/shmlink ls --json)
echo "root=$?"
echo "listing=$(echo "$listing" | tr -d '\n')"
pid=$(systemctl show --value -p ExecMainPID shmlink.service)
echo "main=$pid"
echo "uid=$(stat -c '%u' "/proc/$pid")"
echo "capabilities=$(sed -n 's/^CapEff:\t//p' "/proc/$pid/status")"
refusal=$(runuser -u shmtester -- env SHMLINK_SOCKET=$SHMLINK_SOCKET /shmlink/bin/shmlink ls 2>&1 >/dev/null)
echo "other=$?"
echo "refusal=$refusal"
echo "mode=$(stat -c '%a' /run/shmlink /run/shmlink/broker.sock | xargs)"
systemctl stop shmlink.service shmlink.socket
echo "stopped=$(systemctl show --value -p Result shmlink.service)"
journalctl -u shmlink.service --no-pager -n 30 2>/dev/null | sed 's/^/journal: /'
