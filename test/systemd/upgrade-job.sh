#!/bin/bash
# Runs as root inside real-systemd.sh: becomes the user, and puts another version in the place of a broker that holds one of
# each thing: a channel, a one-way channel, a context, an offer, and a service with rings that are kept ready.
# Prints lines "name=value" for survival.test.ts.
. /shmlink/test/systemd/as-user.sh
printf '[[allow]]\nengine = "test"\naction = ["connect", "list"]\n' >"$HOME/.config/shmlink/shmlink.toml"

# puts the units of a version in place
install() {
  install_units "$1/bin/shmlink"
  systemctl --user daemon-reload
}
ask() { echo "ls.$1=$($shmlink ls --json | tr -d '\n')"; }
# says a word through a channel and waits for it at the other end
say() {
  echo "$1" >&"$2"
  until grep -qx "$1" "$HOME/$3"; do sleep 0.05; done
  echo "said.$3.$1=$(tail -n 1 "$HOME/$3")"
}
spares() { grep -c ' .w.. .*memfd:shmlink:spare' "/proc/$1/maps"; }
await_name() {
  until $shmlink ls --json | grep -q "\"$1\""; do sleep 0.1; done
}

# the other version: this one with another number
cd "$HOME"
mkdir new
for each in bin config ffi lib package.json deno.json systemd; do cp -r "/shmlink/$each" new/; done
ln -s "$(readlink -f /shmlink/node_modules)" new/node_modules
sed -i 's/VERSION = "[^"]*"/VERSION = "99.0.0"/' new/lib/version.ts

install /shmlink
systemctl --user enable --now shmlink.socket
mkfifo words lines sandbox
$shmlink listen talk --message </dev/null >heard &
await_name talk
$shmlink dial talk --message <words >/dev/null &
exec 5>words
say before 5 heard # so that the channels are in this order
$shmlink listen log --message --direction=receive </dev/null >logged &
await_name log
$shmlink dial log --message --direction=send <lines &
exec 6>lines
say before 6 logged
exec 9<>sandbox 8<sandbox
$shmlink context create --engine=test --app=app --instance=1 --path="$HOME/context.sock" --close-fd=8 9>&-
exec 8<&-
echo kept >file
$shmlink offer note --fd=7 7<file 5>&- 6>&- 9>&- &
await_name note
/shmlink/node_modules/.bin/bun /shmlink/test/fixtures/survival/service.ts echo async 5>&- 6>&- 9>&- >service.log &
service=$!
await_name echo
$shmlink dial echo --message </dev/null
until [ "$(spares $service)" = 2 ]; do sleep 0.1; done
# two rings of each of the two channels, a socket and a pipe, a file, and the state
until [ "$(show NFileDescriptorStore)" = 8 ]; do sleep 0.1; done
ask before
old=$(show MainPID)

install "$HOME/new"
systemctl --user restart shmlink.service
until grep -q '^back echo' service.log; do sleep 0.1; done
until [ "$(spares $service)" = 2 ]; do sleep 0.1; done
echo "spares=$(spares $service)"
# who offers has come back, as the service has: what is taken before, he offers a second time
until $shmlink ls --json | grep -q '"sessions": *3\>'; do sleep 0.1; done
say after 5 heard
say after 6 logged
ask after
echo "pids=$old $(show MainPID)"
SHMLINK_SOCKET=$HOME/context.sock $shmlink ls --json >/dev/null
echo "context=$?"
echo "taken=$($shmlink take note -- cat /proc/self/fd/3)"
exec 5>&- 6>&- 9>&-
kill $service
wait
systemctl --user stop shmlink.service shmlink.socket
echo "stopped=$(show Result)"
journalctl --user -u shmlink.service --no-pager -n 60 2>/dev/null | sed 's/^/journal: /'
