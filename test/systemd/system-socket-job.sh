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
# channels, descriptors and what is carried on work behind all that the unit forbids
/shmlink/bin/shmlink listen talk --message </dev/null >/tmp/heard &
until /shmlink/bin/shmlink ls --json | grep -q '"talk"'; do sleep 0.1; done
mkfifo /tmp/words
/shmlink/bin/shmlink dial talk --message </tmp/words >/dev/null &
exec 5>/tmp/words
echo word >&5
until grep -qx word /tmp/heard; do sleep 0.05; done
until [ "$(systemctl show --value -p NFileDescriptorStore shmlink.service)" -ge 3 ]; do sleep 0.1; done
kill -KILL "$pid"
until next=$(systemctl show --value -p MainPID shmlink.service) && [ "$next" != 0 ] && [ "$next" != "$pid" ] &&
  [ "$(systemctl show --value -p ActiveState shmlink.service)" = active ]; do sleep 0.1; done
echo "carried=$(/shmlink/bin/shmlink ls --json | grep -c '"service": *"talk"\|"name": *"talk"')"
echo kept >/tmp/file
/shmlink/bin/shmlink offer note --fd=7 7</tmp/file 5>&- &
until /shmlink/bin/shmlink ls --json | grep -q '"note"'; do sleep 0.1; done
echo "taken=$(/shmlink/bin/shmlink take note -- cat /proc/self/fd/3)"
exec 5>&-
refusal=$(runuser -u shmtester -- env SHMLINK_SOCKET=$SHMLINK_SOCKET /shmlink/bin/shmlink ls 2>&1 >/dev/null)
echo "other=$?"
echo "refusal=$refusal"
echo "mode=$(stat -c '%a' /run/shmlink /run/shmlink/broker.sock | xargs)"
systemctl stop shmlink.service shmlink.socket
echo "stopped=$(systemctl show --value -p Result shmlink.service)"
journalctl -u shmlink.service --no-pager -n 30 2>/dev/null | sed 's/^/journal: /'
