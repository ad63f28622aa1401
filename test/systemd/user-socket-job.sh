#!/bin/bash
# Runs as root inside real-systemd.sh: becomes the user, enables the user socket unit and asks the broker twice.
# Prints lines "name=value" for activation.test.ts.
. /shmlink/test/systemd/as-user.sh
install_units "$shmlink"
printf '[broker]\nidleMs = 500\n' >"$HOME/.config/shmlink/shmlink.toml"

# asks; then what came, and the pid that systemd started last; who watches keeps the broker from its idle exit meanwhile
ask() {
  exec 3< <(exec /shmlink/bin/shmlink ls --watch --json)
  watch=$!
  read -r _ <&3
  listing=$(/shmlink/bin/shmlink ls --json)
  echo "ls$1=$?"
  echo "listing$1=$(echo "$listing" | tr -d '\n')"
  echo "main$1=$(show ExecMainPID)"
  echo "privileges$1=$(sed -n -E 's/^(Cap(Inh|Prm|Eff|Amb)|NoNewPrivs):\t//p' "/proc/$(show MainPID)/status" | xargs)"
  kill $watch
  exec 3<&-
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
