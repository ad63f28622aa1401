# Sourced by jobs of real-systemd.sh, which run as root: goes on as the user whose manager runs there, with what all of them need.
if [ "$(id -u)" = 0 ]; then exec runuser -u shmtester -- bash "$0"; fi
cd /
export HOME=/home/shmtester XDG_RUNTIME_DIR=/run/user/4242
export DBUS_SESSION_BUS_ADDRESS=unix:path=$XDG_RUNTIME_DIR/bus
shmlink=${SHMLINK:-/shmlink/bin/shmlink}
units=$HOME/.config/systemd/user
mkdir -p "$units" "$HOME/.config/shmlink"

# puts the user units in place, for the program $1
install_units() {
  for unit in shmlink.socket shmlink.service; do
    sed "s|@SHMLINK@|$1|" "/shmlink/systemd/user/$unit" >"$units/$unit"
  done
}
show() { systemctl --user show --value -p "$1" shmlink.service; }
