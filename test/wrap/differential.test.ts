/** Programs natively and wrapped, compared line by line (helpers/differential.ts): what each of them does first of all. */
import { join } from "node:path";
import { compareScripts, type Script } from "../helpers/differential.ts";
import { expectNoFdLeaks } from "../helpers/fd-leak.ts";
import { requires } from "../helpers/requires.ts";
import { ROOT } from "../helpers/runtimes.ts";

expectNoFdLeaks();
const FIXTURES = join(ROOT, "test/fixtures/programs");
const curl = requires.program("curl", "curl");
const python = requires.program("python3", "python3");

const NGINX_CONF = `cat > conf <<END
$([ "$(id -u)" = 0 ] && echo 'user root;') daemon off; worker_processes 2; pid $PWD/pid; error_log stderr notice;
events { worker_connections 64; }
http { sendfile on; client_body_temp_path t1; proxy_temp_path t2; fastcgi_temp_path t3; uwsgi_temp_path t4; scgi_temp_path t5;
log_format short '\\$remote_addr \\$server_addr:\\$server_port \\$request \\$status \\$body_bytes_sent';
access_log $PWD/access.log short;
server { listen 127.0.0.1:$A; listen [::1]:$A; root $PWD;
  location /away { return 302 /file; } location /up { proxy_pass http://127.0.0.1:$B; } } }
END
`;

const SCRIPTS: Readonly<Record<string, Script>> = {
  "nginx: files, ranges, redirects, uploads, an upstream that is absent and one that comes, reload and quit": {
    needs: [requires.program("nginx", "nginx-light"), curl, python],
    listeners: 3,
    text: `${NGINX_CONF}
head -c 300000 /dev/zero | tr '\\0' x > file; chmod 755 . ; mkdir -p up; echo from upstream > up/page
serve nginx -p "$PWD" -c "$PWD/conf" 2> errors & S=$!
ready "$A"
for host in 127.0.0.1 '[::1]'; do
  run curl -sS "http://$host:$A/file" | md5sum
  run curl -sSL -r 5-20 "http://$host:$A/away"; echo
  run curl -sS -o page -w '%{http_code} %{size_download} %{remote_ip} %{local_ip} %{num_connects}\\n' "http://$host:$A/file" "http://$host:$A/none"
  run curl -sS -o page -w '%{http_code}\\n' -T file "http://$host:$A/put"
  run curl -sS -I --http1.0 "http://$host:$A/file" | grep -v 'Date\\|ETag\\|Last-Modified'
done
run curl -sS -o page -w 'absent %{http_code}\\n' "http://127.0.0.1:$A/up/page"
serve python3 -m http.server "$B" --bind 127.0.0.1 > /dev/null 2>&1 & U=$!
ready "$B"
run curl -sS "http://127.0.0.1:$A/up/page"
kill $U; ended $U upstream
kill -HUP "$(cat pid)"
until grep -q 'exited with code 0' errors; do sleep 0.05; done
run curl -sS "http://127.0.0.1:$A/file" | md5sum
kill -QUIT "$(cat pid)"; ended $S nginx
sort access.log # a worker writes of a request when its client may have asked another one already
grep -v notice errors | grep -o 'connect() failed.*111.*refused' `,
  },
  "redis: values, a pipeline, pub and sub, a replica, shutdown and start on the same port": {
    needs: [requires.program("redis-server", "redis-server"), requires.program("redis-cli", "redis-tools")],
    listeners: 3,
    text: `
start() { serve redis-server --port "$1" --bind 127.0.0.1 --save '' --logfile "$PWD/log-$1" "\${@:2}" & }
cli() { run redis-cli -p "$@"; }
start "$A"; S=$!; ready "$A"
cli "$A" set key value; cli "$A" incr n; cli "$A" incr n; cli "$A" get key; cli "$A" nonsense
printf 'set a 1\\nget a\\nlpush l x y z\\nlrange l 0 -1\\n' | cli "$A"
cli "$A" client list | sed -E 's/:[0-9]+ /:N /g' | grep -oE '^id=.*|addr=[^ ]+ laddr=[^ ]+' | grep -oE 'l?addr=[^ ]+'
cli "$A" config get tcp-backlog
run redis-benchmark -p "$A" -n 2000 -c 50 -P 16 -q -t set,get,lpush > /dev/null; echo "benchmark $?"
start "$B" --replicaof 127.0.0.1 "$A"; R=$!; ready "$B"
until cli "$B" info replication | grep -q master_link_status:up; do sleep 0.05; done
until cli "$A" info replication | grep -q state=online; do sleep 0.05; done
cli "$B" get key; cli "$B" set key other
cli "$A" info replication | grep -E '^(role|connected_slaves)|ip=127' | sed -E 's/(offset|lag)=[0-9]+/\\1/g'
cli "$A" shutdown nosave; ended $S first
start "$A"; S=$!; ready "$A"
cli "$A" get key
until cli "$B" info replication | grep -q master_link_status:up; do sleep 0.05; done # a signal may interrupt its connect()
kill $R; ended $R replica
kill $S; ended $S second
cli "$A" ping`,
  },
  "memcached: threads, a thousand values, and its view of its connections": {
    needs: [requires.program("memcached", "memcached"), python],
    listeners: 1,
    text: `
serve memcached -t 4 -l 127.0.0.1 -p "$A" -c 256 $([ "$(id -u)" = 0 ] && echo -u nobody) & S=$!
ready "$A"
run python3 - "$A" <<'END'
import socket, sys, threading
port = int(sys.argv[1])
counts = []
def work(n):
    good = 0
    for round in range(5):
        with socket.create_connection(("127.0.0.1", port)) as s:
            file = s.makefile("rwb")
            for i in range(25):
                file.write(b"set k%d-%d 0 0 5\\r\\nvalue\\r\\nget k%d-%d\\r\\n" % (n, i, n, i)); file.flush()
                good += [file.readline().strip() for _ in range(4)][2] == b"value"
    counts.append(good)
threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
for t in threads: t.start()
for t in threads: t.join()
print("right", sum(counts))
with socket.create_connection(("127.0.0.1", port)) as s:
    s.sendall(b"stats conns\\r\\nquit\\r\\n")
    text = s.makefile().read()
    own = "addr tcp:127.0.0.1:%d" % s.getsockname()[1]
    print("knows us", own in text, "listens", "addr tcp:127.0.0.1:%d" % port in text)
END
kill $S; ended $S memcached`,
  },
  "python's http.server: 64 at once, its log, and its end": {
    needs: [python, curl],
    listeners: 1,
    isSorted: true,
    text: `
echo the page > page
serve python3 -u -m http.server "$A" --bind 127.0.0.1 > log 2>&1 & S=$!
ready "$A"
run bash -c 'for i in $(seq 64); do curl -sS --max-time 20 http://127.0.0.1:$0/page & done; wait' "$A"
run curl -sS -o none -w '%{http_code}\\n' "http://127.0.0.1:$A/none"
kill -TERM $S; ended $S server
sed -E 's/\\[[^]]*\\]/DATE/' log`,
  },
  "asyncio: two thousand streams": {
    needs: [python],
    listeners: 1,
    text: `ulimit -n "$(ulimit -Hn)"
serve python3 ${FIXTURES}/streams.py server "$A" 2000 4096 > log 2>&1 & S=$!
ready "$A"
run python3 ${FIXTURES}/streams.py client "$A" 2000
ended $S server
sed -E 's/different 200[01]/different 2000/' log`,
  },
  "node: an agent that keeps connections, an upload, a refusal, and a server that closes and listens again": {
    needs: [requires.program("node", "nodejs")],
    listeners: 2,
    text: `
run node - "$A" <<'END'
const http = require("http"), port = +process.argv[2], agent = new http.Agent({ keepAlive: true, maxSockets: 2 });
const used = new Set();
const server = http.createServer({ keepAliveTimeout: 0 }, (request, response) => {
  used.add(request.socket.remotePort);
  let size = 0;
  request.on("data", (data) => (size += data.length)).on("end", () => response.end(size + " " + request.socket.remoteAddress + " " + request.socket.localPort));
});
const ask = (body) => new Promise((resolve) => {
  const request = http.request({ port, host: "127.0.0.1", agent, method: "POST" }, (response) => {
    let text = ""; response.on("data", (data) => (text += data)).on("end", () => resolve(text));
  }).on("error", (error) => resolve(error.code));
  request.end(body);
});
const listen = () => new Promise((resolve) => server.listen(port, "127.0.0.1", resolve));
const close = () => new Promise((resolve) => { server.close(resolve); server.closeAllConnections(); });
(async () => {
  await listen();
  console.log(await Promise.all(Array.from({ length: 12 }, (_, n) => ask("x".repeat(n * 1000)))));
  console.log("connections", used.size);
  console.log((await ask("y".repeat(3e6))));
  await close();
  agent.destroy(); // what a write to a closed connection comes to is another matter
  console.log(await ask("late"));
  await listen();
  console.log(await ask("again"));
  await close();
  console.log("end"); agent.destroy();
})();
END
echo "node ended with $?"`,
  },
  "bash, nc and socat: half closes, what a listener says of who comes, and children for each": {
    needs: [requires.program("nc", "netcat-openbsd"), requires.program("socat", "socat")],
    listeners: 2,
    text: `
serve nc -lvN 127.0.0.1 "$A" > got 2> said < <(echo answer; sleep 0.5) & S=$!
ready "$A"
run bash -c 'exec 3<>/dev/tcp/127.0.0.1/$0; echo question >&3; head -n1 <&3' "$A"
ended $S nc; cat got; sed -E 's/ [0-9]+$//' said
serve socat "TCP-LISTEN:$B,bind=127.0.0.1,reuseaddr,fork" EXEC:'tr a-z A-Z' 2> /dev/null & S=$!
ready "$B"
for i in 1 2 3; do echo "line $i" | run socat -t5 - "TCP:127.0.0.1:$B,nodelay,keepalive"; done
echo to nc | run nc -N 127.0.0.1 "$B"
kill $S; ended $S socat
run bash -c 'exec 3<>/dev/tcp/127.0.0.1/$0' "$A"; echo "refused $?"`,
  },
  "curl and wget: what they say of one who is absent, of one who answers nonsense, and of a name that is none": {
    needs: [curl, requires.program("wget", "wget"), requires.program("nc", "netcat-openbsd")],
    listeners: 2,
    text: `
run curl -sS --connect-timeout 30 "http://127.0.0.1:$A/" 2>&1 | sed -E 's/after [0-9]+ ms/after N ms/'; echo "\${PIPESTATUS[0]}"
run wget -qO- --tries=1 "http://127.0.0.1:$A/"; echo $?
run wget -nv -O- --tries=1 "http://[::1]:$A/" 2>&1; echo $?
for port in "$A" "$B"; do
  serve nc -lN 127.0.0.1 "$port" < <(printf 'nonsense\\n') > /dev/null & S=$!
  ready "$port"
  [ "$port" = "$A" ] && { run curl -sS "http://127.0.0.1:$port/"; echo $?; } || { run wget -qO- --tries=1 "http://127.0.0.1:$port/"; echo $?; }
  wait $S
done
export RES_OPTIONS="timeout:1 attempts:1" # name servers may be silent
run curl -sS "http://no.such.host.invalid/" 2>&1; echo $?
run curl -sS "http://127.0.0.1:99999/" 2>&1; echo $?`,
  },
  "perl: a server that forks, and a client by its library": {
    needs: [requires.program("perl", "perl-base")],
    listeners: 1,
    text: `
serve perl -MIO::Socket::INET -e '
  $SIG{CHLD} = "IGNORE";
  my $s = IO::Socket::INET->new(LocalAddr => "127.0.0.1", LocalPort => shift, Listen => 5, ReuseAddr => 1) or die $@;
  for (1 .. 3) {
    my $c; 1 until $c = $s->accept;
    if (fork) { close $c; next }
    close $s; # or it listens for a moment after its client has ended
    print $c "hello ", $c->peerhost, " at ", $c->sockhost, ":", $c->sockport, "\\n"; print $c scalar <$c>; exit;
  }' "$A" & S=$!
ready "$A"
for i in 1 2 3; do
  run perl -MIO::Socket::INET -e '
    my $c = IO::Socket::INET->new(PeerAddr => "127.0.0.1:" . shift, Timeout => 5) or die $@;
    print scalar <$c>; print $c "line\\n"; print <$c>; print $c->peerport, " ", $c->sockhost, "\\n"' "$A"
done
ended $S server
run perl -MIO::Socket::INET -e 'IO::Socket::INET->new(PeerAddr => "127.0.0.1:" . shift) or die "$@\\n"' "$A"; echo $?`,
  },
};

compareScripts(SCRIPTS);
