/** Servers and their clients natively and wrapped, line by line (helpers/differential.ts): what the two sides see of each other. */
import { join } from "node:path";
import { compareScripts, type Script } from "../helpers/differential.ts";
import { expectNoFdLeaks } from "../helpers/fd-leak.ts";
import { requires } from "../helpers/requires.ts";
import { ROOT } from "../helpers/runtimes.ts";

expectNoFdLeaks();
const FIXTURES = join(ROOT, "test/fixtures/programs");
const curl = requires.program("curl", "curl");
const go = requires.program("go", "golang-go");
const node = requires.program("node", "nodejs");
const python = requires.program("python3", "python3");

/** @param protocol  0 as net.Listen() makes them, 262 for Multipath TCP */
function goScript(protocol: number): Script {
  return {
    needs: [go],
    isInterrupted: true,
    listeners: 1,
    text: `
CGO_ENABLED=0 GOFLAGS=-mod=mod go build -o sockets ${FIXTURES}/sockets.go || exit
serve ./sockets server "$A" ${protocol} 400 > log 2>&1 & S=$!
ready "$A"
run ./sockets client "$A" ${protocol} 400
ended $S server; cat log`,
  };
}

function clusterScript(policy: number): Script {
  return {
    needs: [node, curl],
    listeners: 1,
    text: `ASK="\${WRAP:+$WRAP }curl -sS" run node ${FIXTURES}/cluster.cjs ${policy} 2>&1; echo "node ended with $?"`,
  };
}

const SCRIPTS: Readonly<Record<string, Script>> = {
  "a static Go program: addresses, options, deadlines, 400 connections under garbage collection, a graceful end":
    goScript(0),
  "a static Go program whose sockets are Multipath TCP's, as Go makes them by default since 1.24": goScript(262),
  "a node cluster on a port of the kernel's choice, its listener shared": clusterScript(1),
  "a node cluster on a port of the kernel's choice, its connections handed out in turn": clusterScript(2),
  "node: listen(0) on every address, by IPv4 and by IPv6": {
    needs: [node, curl],
    listeners: 1,
    text: `
run node - <<'END'
const net = require("net");
const server = net.createServer({ allowHalfOpen: true }, (socket) => {
  const { remoteAddress, remoteFamily, remotePort, localAddress, localPort, localFamily } = socket;
  const address = socket.address();
  socket.on("end", () => socket.end(JSON.stringify({ remoteAddress, remoteFamily, remotePort, localAddress, localPort, localFamily, address })));
  socket.resume();
});
const dial = (port, host) => new Promise((resolve) => {
  const events = [];
  const socket = net.connect({ port, host, family: host.includes(":") ? 6 : 4 });
  for (const name of ["lookup", "connect", "ready", "end", "close", "error"]) socket.on(name, (what) => events.push(name + " " + (what?.code ?? what)));
  let text = "";
  socket.on("connect", () => { resolve.own = socket.address(); socket.end("x"); });
  socket.on("data", (data) => (text += data)).on("close", () => {
    const seen = text === "" ? {} : JSON.parse(text);
    const agree = seen.remotePort === resolve.own?.port && seen.localPort === port && seen.address?.port === port;
    resolve(JSON.stringify({ ...seen, remotePort: 0, localPort: 0, address: seen.address?.address, agree, events, own: resolve.own?.address, family: resolve.own?.family }));
  });
});
server.listen(0, async () => {
  const { address, family, port } = server.address();
  console.log(address, family, port > 0);
  for (const host of ["127.0.0.1", "::1", "::ffff:127.0.0.1"]) console.log(await dial(port, host));
  server.getConnections((error, count) => console.log("connections", error, count));
  server.close(async () => { for (const host of ["127.0.0.1", "::1"]) console.log("closed", await dial(port, host)); });
});
END
echo "node ended with $?"`,
  },
  "redis: CLIENT LIST and the client's own socket agree on both addresses": {
    needs: [requires.program("redis-server", "redis-server"), python],
    listeners: 2,
    text: `
serve redis-server --port "$A" --bind 127.0.0.1 ::1 --save '' --logfile "$PWD/log" & S=$!
ready "$A"; until [ -e log ] && grep -q 'Ready to accept' log; do sleep 0.02; done
run python3 - "$A" <<'END'
import socket, sys
port = int(sys.argv[1])
def ask(file, *words):
    file.write(("*%d\\r\\n" % len(words) + "".join("$%d\\r\\n%s\\r\\n" % (len(w), w) for w in words)).encode()); file.flush()
    line = file.readline().decode().strip()
    return file.read(int(line[1:]) + 2).decode() if line[0] == "$" else line
def text(address): return ("[%s]:%d" if ":" in address[0] else "%s:%d") % address[:2]
def shown(address): return "%s:%d" % address[:2]
held = []
for host in ["127.0.0.1", "::1"] * 8:
    s = socket.create_connection((host, port)); file = s.makefile("rwb")
    held.append((s, file, ask(file, "CLIENT", "ID")[1:]))
lines = {}
for line in ask(held[0][1], "CLIENT", "LIST").split("\\n"):
    fields = dict(word.split("=", 1) for word in line.split() if "=" in word)
    if fields: lines[fields["id"]] = fields
for s, file, id in held:
    fields, own, peer = lines[id], s.getsockname(), s.getpeername()
    agree = fields["addr"] in (text(own), shown(own)), fields["laddr"] in (text(peer), shown(peer))
    info = dict(word.split("=", 1) for word in ask(file, "CLIENT", "INFO").split() if "=" in word)
    print(agree, info["addr"] == fields["addr"], fields["addr"].rpartition(":")[0], fields["laddr"].rpartition(":")[0], fields["flags"], s.getsockopt(6, 1))
print("unique", len({fields["addr"] for fields in lines.values()}), "of", len(lines))
END
kill $S; ended $S redis`,
  },
  "memcached: four threads, IPv4 and IPv6, another user, two thousand connections": {
    needs: [requires.program("memcached", "memcached"), python],
    listeners: 2,
    text: `
serve memcached -t 4 -l 127.0.0.1,::1 -p "$A" -c 256 -b 512 $([ "$(id -u)" = 0 ] && echo -u nobody) 2> errors & S=$!
ready "$A" 2
run python3 - "$A" <<'END'
import socket, sys
port = int(sys.argv[1])
def ask(s, words, end):
    s.sendall(words + b"\\r\\n"); data = b""
    while not data.endswith(end):
        more = s.recv(65536)
        if not more: return "ended after " + repr(data)
        data += more
    return data.decode()
for host in "127.0.0.1", "::1":
    with socket.create_connection((host, port)) as s:
        for n in range(2000): assert ask(s, b"set k%d 0 0 5\\r\\nvalue" % n, b"\\r\\n") == "STORED\\r\\n"
        stats = dict(line.split()[1:] for line in ask(s, b"stats settings", b"END\\r\\n").splitlines() if line.startswith("STAT") and len(line.split()) == 3)
        print({key: stats[key] for key in ("maxconns", "tcpport", "num_threads", "tcp_backlog", "inter")})
        conns = ask(s, b"stats conns", b"END\\r\\n")
        own = s.getsockname()
        print("knows us", "tcp%s:%s:%d" % (("6", "[::1]", own[1]) if host == "::1" else ("", host, own[1])) in conns)
        print(sorted({line.split()[2].rpartition(":")[0] for line in conns.splitlines() if ":addr" in line}))
for _ in range(2000):
    with socket.create_connection(("127.0.0.1", port)) as s: assert ask(s, b"get k7", b"END\\r\\n").endswith("value\\r\\nEND\\r\\n")
held = [socket.create_connection(("127.0.0.1", port)) for _ in range(40)]
print("held", sum(ask(s, b"get k7", b"END\\r\\n").endswith("END\\r\\n") for s in held))
END
kill $S; ended $S memcached; cat errors`,
  },
  "bash: a storm of a hundred processes that read and write /dev/tcp": {
    needs: [python, requires.program("bash", "bash")],
    listeners: 1,
    isSorted: true,
    text: `
echo the page > page
serve python3 -u - "$A" > log 2>&1 <<'END' & S=$!
import http.server, sys
http.server.ThreadingHTTPServer.request_queue_size = 256 # TCP would reset some of those for whom there is no room
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), http.server.SimpleHTTPRequestHandler).serve_forever()
END
ready "$A"
run bash -c 'for i in $(seq 100); do
  (exec 3<>"/dev/tcp/127.0.0.1/$0"; printf "GET /page HTTP/1.0\\r\\n\\r\\n" >&3; tail -n1 <&3; echo "closed $?") & done; wait' "$A"
run bash -c 'exec 3<>/dev/tcp/127.0.0.1/9; echo never' 2>&1; echo "refused $?"
kill -INT $S; kill -TERM $S; ended $S server
grep -c 'GET /page HTTP/1.0" 200' log`,
  },
  "curl and wget: a server that is absent, by every address and option that changes how they connect": {
    needs: [curl, requires.program("wget", "wget")],
    listeners: 0,
    text: `
for host in 127.0.0.1 127.0.0.2 '[::1]' '[::ffff:127.0.0.1]' 0.0.0.0 localhost; do
  for option in '' --tcp-nodelay --tcp-fastopen '--interface 127.0.0.1' '--local-port 0' '--connect-timeout 30' '--retry 1 --retry-delay 0' --no-keepalive; do
    run curl -sS $option -o none -w '%{http_code} %{errormsg} %{num_connects} %{remote_ip} %{local_ip}\\n' "http://$host:$A/" 2>&1 |
      sed -E 's/after [0-9]+ ms/after N ms/g'
    echo "$host $option \${PIPESTATUS[0]}"
  done
  run wget -nv -O- --tries=1 "http://$host:$A/" 2>&1; echo "$host $?"
done`,
  },
};

compareScripts(SCRIPTS);
