/** OpenSSH, natively and wrapped: a server that forks, changes its user, and puts a filter of its own on what it does not trust. */
import { readFileSync } from "node:fs";
import { compareScripts } from "../helpers/differential.ts";
import { expectNoFdLeaks } from "../helpers/fd-leak.ts";
import { requires } from "../helpers/requires.ts";

expectNoFdLeaks();

/** sshd lets nobody in whose password begins with "!": root's does where the installer was given none. */
function isRootLocked(): boolean {
  try {
    return /^root:!/m.test(readFileSync("/etc/shadow", "latin1"));
  } catch {
    return true; // not ours to read
  }
}

compareScripts({
  "sshd: commands by IPv4 and IPv6, much data, a tunnel, who is refused, and its log": {
    needs: [
      requires.program("sshd", "openssh-server"),
      requires.program("ssh", "openssh-client"),
      requires.root(),
      requires.feature(!isRootLocked(), "root may not log in here"),
    ],
    listeners: 4,
    text: `
mkdir -p /run/sshd
ssh-keygen -q -t ed25519 -N "" -f host
ssh-keygen -q -t ed25519 -N "" -f key
cat > conf <<CONF
Port $A
ListenAddress 127.0.0.1
ListenAddress ::1
HostKey $PWD/host
AuthorizedKeysFile $PWD/key.pub
StrictModes no
UsePAM no
PidFile none
PermitRootLogin yes
PasswordAuthentication no
KbdInteractiveAuthentication no
CONF
ssh=(ssh -F none -i key -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR)
secure() { run "\${ssh[@]}" "$@"; }
masked() { sed -E 's/ [0-9]{5} / CLIENT /; s/ port [0-9]+/ port CLIENT/; s/SHA256:.*/KEY/'; }
serve "$(command -v sshd)" -D -e -f conf 2> log & server=$!
ready $A 2
secure -p $A root@127.0.0.1 'echo $SSH_CONNECTION; id -un' | masked
secure -p $A root@::1 'echo $SSH_CONNECTION' | masked
seq 200000 | secure -p $A root@127.0.0.1 cksum
secure -p $A root@127.0.0.1 'seq 200000; exit 7' | cksum; echo "\${PIPESTATUS[0]}"
serve "\${ssh[@]}" -v -E tunnel.log -p $A -N -L $B:127.0.0.1:$A root@127.0.0.1 & tunnel=$!
ready $B 2
secure -p $B root@127.0.0.1 'echo through'
secure -p $B root@::1 'seq 100000' | cksum
# A session whose farewell is lost with the tunnel is not spoken of in the log.
until [ "$(grep -c '^Disconnected' log)" = 6 ]; do sleep 0.02; done
# Who ends and has not read all resets its connection, of which the log would speak otherwise.
until [ "$(grep -c 'channel .*: free: direct-tcpip' tunnel.log)" = 2 ]; do sleep 0.02; done
kill $tunnel; ended $tunnel tunnel
secure -p $A nobody-of-that-name@127.0.0.1 true 2>&1; echo "refused: $?"
secure -p $B root@127.0.0.1 true 2>&1; echo "gone: $?"
until [ "$(grep -cE '^(Disconnected|Connection closed)' log)" = 8 ]; do sleep 0.05; done
kill $server; ended $server server
sort log | masked
`,
  },
});
