#!/bin/bash
# Runs as root inside real-systemd.sh: becomes the user, lets systemd start the broker, and takes it away from under a
# channel, a context and an offer: by SIGKILL, by the watchdog, by a restart. Prints lines "name=value" for survival.test.ts.
. /shmlink/test/systemd/as-user.sh
mkdir -p "$units/shmlink.service.d"
install_units "$shmlink"
printf '[Service]\nWatchdogSec=10s\n' >"$units/shmlink.service.d/watchdog.conf"
printf '[broker]\nidleMs = 500\n[[allow]]\nengine = "test"\naction = ["connect", "list"]\n' >"$HOME/.config/shmlink/shmlink.toml"

ask() { echo "ls.$1=$($shmlink ls --json | tr -d '\n')"; }
# until systemd runs a broker that is not $1
await_next() {
  until pid=$(show MainPID) && [ "$pid" != 0 ] && [ "$pid" != "$1" ] && [ "$(show ActiveState)" = active ]; do sleep 0.1; done
}
# says a word through the channel and waits for it at the other end
say() {
  echo "$1" >&5
  until grep -qx "$1" "$HOME/heard" || [ -e "$HOME/over" ]; do sleep 0.05; done
  echo "said.$1=$(tail -n 1 "$HOME/heard")"
}
# somebody connects through the context
enter() {
  SHMLINK_SOCKET=$HOME/context.sock $shmlink ls --json >/dev/null
  echo "context.$1=$?"
}

systemctl --user daemon-reload
systemctl --user enable --now shmlink.socket
cd "$HOME"
mkfifo words sandbox
$shmlink listen talk --message </dev/null >heard &
listener=$!
until $shmlink ls --json | grep -q '"talk"'; do sleep 0.1; done
$shmlink dial talk --message <words >/dev/null &
dialler=$!
exec 5>words
exec 9<>sandbox 8<sandbox
$shmlink context create --engine=test --app=app --instance=1 --path="$HOME/context.sock" --close-fd=8 9>&-
exec 8<&-
echo kept >file
$shmlink offer note --fd=7 7<file 5>&- 9>&- &
offerer=$!
until $shmlink ls --json | grep -q '"note"'; do sleep 0.1; done
say before
until [ "$(show NFileDescriptorStore)" -ge 6 ]; do sleep 0.1; done
ask start
enter start

first=$(show MainPID)
kill -KILL "$first"
await_next "$first"
ask killed
enter killed
say killed
until $shmlink ls --json | grep -q '"note"'; do sleep 0.1; done

second=$(show MainPID)
kill -STOP "$second"
await_next "$second"
ask watchdog
enter watchdog
say watchdog
echo "restarts=$(show NRestarts)"

third=$(show MainPID)
systemctl --user restart shmlink.service
await_next "$third"
ask restarted
enter restarted
say restarted
echo "pids=$first $second $third $(show MainPID)"

# who offers has come back: what is taken before, he offers a second time
until $shmlink ls --json | grep -q '"sessions": *2\>'; do sleep 0.1; done
echo "taken=$($shmlink take note -- cat /proc/self/fd/3)"
$shmlink take note -- true 2>/dev/null
echo "again=$?"
wait $offerer
echo "offered=$?"
exec 5>&-
wait $dialler $listener
exec 9>&-
until [ "$(show ActiveState)" = inactive ] || [ "$(show ActiveState)" = failed ]; do sleep 0.1; done
echo "idle=$(show ActiveState) $(show Result) $(show NFileDescriptorStore)"
systemctl --user stop shmlink.service shmlink.socket
echo "stopped=$(show Result)"
journalctl --user -u shmlink.service --no-pager -n 60 2>/dev/null | sed 's/^/journal: /'
