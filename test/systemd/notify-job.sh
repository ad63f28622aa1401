#!/bin/bash
# Runs as root inside real-systemd.sh: becomes the user and lets systemd start a wrapped server that says by itself that it is
# ready: as Type=notify with NotifyAccess=all, without that, and with a socket of the manager's. Prints lines "name=value".
. /shmlink/test/systemd/as-user.sh
install_units "$shmlink"
cd "$HOME"

cat >"$HOME/server.py" <<'PYTHON'
import os, socket
listener = socket.create_server(("127.0.0.1", 8123))
address = os.environ["NOTIFY_SOCKET"].replace("@", "\0", 1)
given = int(os.environ.get("LISTEN_FDS", 0))
ours = os.environ.get("LISTEN_PID") == str(os.getpid())
status = f"STATUS=pid {os.getpid()} has {given} {'of its own' if ours else 'of none'}"
socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(f"READY=1\n{status}".encode(), address)
while True:
    connection, _ = listener.accept()
    connection.sendall(b"hello\n")
    connection.close()
PYTHON

# unit NAME LINE...: a service that runs the server under wrap
unit() {
  { printf '[Service]\nType=notify\nExecStart=%s wrap -- python3 %s/server.py\n' "$shmlink" "$HOME"; printf '%s\n' "${@:2}"; } \
    >"$units/$1.service"
}
of() { systemctl --user show --value -p "$2" "$1.service"; }

unit all NotifyAccess=all SuccessExitStatus=143
unit main NotifyAccess=main TimeoutStartSec=5
unit given NotifyAccess=all
printf '[Socket]\nListenStream=%%t/given.sock\n' >"$units/given.socket"
systemctl --user daemon-reload

systemctl --user start all.service
echo "all=$? $(of all ActiveState) $(of all Result)"
echo "all.status=$(of all StatusText)"
echo "all.main=$(of all MainPID)"
echo "all.children=$(pgrep -P "$(of all MainPID)" -f server.py)"
echo "all.says=$($shmlink wrap --explain -- python3 -c 'import socket; print(socket.create_connection(("127.0.0.1", 8123)).recv(9).decode(), end="")' 2>explained)"
echo "all.way=$(grep -c 'connect  *127.0.0.1:8123 .*to /.*\.tcp' explained)"
systemctl --user stop all.service
echo "all.stopped=$(of all Result)"

systemctl --user start main.service 2>/dev/null
echo "main=$? $(of main ActiveState) $(of main Result)"

systemctl --user start given.socket
systemctl --user start given.service
echo "given=$? $(of given ActiveState)"
echo "given.status=$(of given StatusText)"
systemctl --user stop given.service
echo "given.stopped=$(of given Result) $(of given ExecMainStatus)"
systemctl --user stop given.socket
systemctl --user stop shmlink.service shmlink.socket 2>/dev/null
echo "stopped=1"
