#!/bin/bash
# Runs as root inside real-systemd.sh: becomes the user, enables the user socket unit and asks the broker twice.
# Prints lines "name=value" for activation.test.ts.
if [ "$(id -u)" = 0 ]; then exec runuser -u shmtester -- bash "$0"; fi
cd /
export HOME=/home/shmtester XDG_RUNTIME_DIR=/run/user/4242
export DBUS_SESSION_BUS_ADDRESS=unix:path=$XDG_RUNTIME_DIR/bus
shmlink=${SHMLINK:-/shmlink/bin/shmlink}
units=$HOME/.config/systemd/user
mkdir -p "$units" "$HOME/.config/shmlink"
for unit in shmlink.socket shmlink.service; do
  sed "s|@SHMLINK@|$shmlink|" "/shmlink/systemd/user/$unit" >"$units/$unit"
done
printf '[broker]\nidleMs = 500\n' >"$HOME/.config/shmlink/shmlink.toml"

show() { systemctl --user show --value -p "$1" shmlink.service; }

# asks; then what came, and the pid that systemd started last
ask() {
  listing=$(/shmlink/bin/shmlink ls --json)
  echo "ls$1=$?"
  echo "listing$1=$(echo "$listing" | tr -d '\n')"
  echo "main$1=$(show ExecMainPID)"
}

systemctl --user daemon-reload
systemctl --user enable --now shmlink.socket
echo "socket=$(systemctl --user is-active shmlink.socket)"
echo "before=$(show ActiveState)"
ask 1
until [ "$(show ActiveState)" = inactive ] || [ "$(show ActiveState)" = failed ]; do sleep 0.1; done
echo "idle=$(show ActiveState) $(show Result) $(show ExecMainStatus)"
ask 2
echo "mode=$(stat -c '%a' "$XDG_RUNTIME_DIR/shmlink" "$XDG_RUNTIME_DIR/shmlink/broker.sock" | xargs)"
systemctl --user stop shmlink.service shmlink.socket
echo "stopped=$(show Result) $(show ExecMainStatus)"
echo "left=$(ls -A "$XDG_RUNTIME_DIR/shmlink")"
journalctl --user -u shmlink.service --no-pager -n 30 2>/dev/null | sed 's/^/journal: /'
