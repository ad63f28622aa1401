/** Servers with protocols and ways of their own, natively and wrapped: see differential.ts. */
import { compareScripts } from "../helpers/differential.ts";
import { expectNoFdLeaks } from "../helpers/fd-leak.ts";
import { requires } from "../helpers/requires.ts";

expectNoFdLeaks();
const python = requires.program("python3", "python3");
const curl = requires.program("curl", "curl");

compareScripts({
  "mosquitto: who subscribes gets what is published, kept and refused, by several at once, and the server ends": {
    needs: [requires.program("mosquitto", "mosquitto"), requires.program("mosquitto_pub", "mosquitto-clients")],
    listeners: 2,
    text: `
printf '%s\\n' "listener $A 127.0.0.1" "listener $B ::1" 'allow_anonymous true' 'max_packet_size 100000' 'log_type none' > conf
serve mosquitto -c conf & server=$!
ready $A; ready $B
run mosquitto_pub -h 127.0.0.1 -p $A -t kept/word -m kept -r -q 1
run mosquitto_sub -h ::1 -p $B -t kept/word -C 1 -v
for i in 1 2 3 4; do run mosquitto_sub -h 127.0.0.1 -p $A -t 'news/#' -t kept/word -C 51 -q 1 > got$i & subscribers[i]=$!; done
until [ "$(cat got? 2> /dev/null | grep -c kept)" = 4 ]; do sleep 0.02; done # who has what is kept has subscribed to the news before
seq 50 | run mosquitto_pub -h ::1 -p $B -t news/all -l -q 1
for i in 1 2 3 4; do ended \${subscribers[i]} subscriber; cksum < got$i; done
# The server closes in the middle: who still writes gets EPIPE, who reads by then that the connection was lost.
head -c 200000 /dev/zero | run mosquitto_pub -h 127.0.0.1 -p $A -t large -s -q 1 >large 2>&1 && echo "too large, and taken"
grep -c -E 'Broken pipe|connection was lost|Connection reset' large
run mosquitto_pub -h 127.0.0.1 -p 1 -t a -m b 2>&1; echo "absent: $?"
kill $server; ended $server server
run mosquitto_pub -h 127.0.0.1 -p $A -t a -m b 2>&1; echo "ended: $?"
`,
  },
  "haproxy: health checks, connections kept and made anew, two threads, a backend that is absent, and a reload": {
    needs: [requires.program("haproxy", "haproxy"), python, curl],
    listeners: 3,
    text: `
cat > back.py <<'PYTHON'
import http.server, socketserver, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = f"{self.path} for {self.headers.get('X-Forwarded-For')} by {self.client_address[0]}\\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *words): pass
class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    request_queue_size = 100
Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
PYTHON
cat > conf <<CONF
global
  nbthread 2
defaults
  mode http
  timeout connect 20s
  timeout client 5s
  timeout server 20s
  timeout check 20s
  option forwardfor
  option http-keep-alive
frontend web
  bind 127.0.0.1:$A
  bind ::1:$A
  use_backend absent if { path /absent }
  default_backend app
backend app
  option httpchk GET /health
  server one 127.0.0.1:$B check inter 1h # one a worker: a signal may interrupt its connect()
backend absent
  server none 127.0.0.1:1
CONF
serve python3 back.py $B 2> back.log & back=$!
ready $B
serve haproxy -W -db -f conf 2> front.log & front=$!
ready $A
for i in $(seq 5); do run curl -s http://127.0.0.1:$A/$i; done
run curl -s http://127.0.0.1:$A/a http://127.0.0.1:$A/b http://127.0.0.1:$A/c
run curl -s "http://[::1]:$A/six"
run curl -s -o /dev/null -w '%{http_code}\\n' http://127.0.0.1:$A/absent
seq 200 | xargs -P 16 -I{} curl -s -o /dev/null -w '%{http_code}\\n' http://127.0.0.1:$A/{} | sort | uniq -c
kill -USR2 $front
until grep -q 'Former worker' front.log; do sleep 0.05; done # before, it may lose a signal
run curl -s http://127.0.0.1:$A/reloaded "http://[::1]:$A/reloaded"
kill -USR1 $front
ended $front front
kill $back
ended $back back
`,
  },
});
