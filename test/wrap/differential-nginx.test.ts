/** nginx natively and wrapped, line by line (helpers/differential.ts): workers that share a port, what its signals do, and upstreams. */
import { compareScripts, type Script } from "../helpers/differential.ts";
import { expectNoFdLeaks } from "../helpers/fd-leak.ts";
import { requires } from "../helpers/requires.ts";

expectNoFdLeaks();
const curl = requires.program("curl", "curl");
const nginx = requires.program("nginx", "nginx-light");

/** configure NAME WORKERS BLOCKS… writes NAME/conf; settled MASTER N OLD… waits until it has N workers, none of the old; logged N
 *  waits until so many requests are in the log, which is after their answers. */
const NGINX = `
configure() {
  mkdir -p "$PWD/$1"
  cat > "$PWD/$1/conf" <<END
$([ "$(id -u)" = 0 ] && echo 'user root;') worker_processes $2; pid $PWD/$1/pid; error_log $PWD/$1/errors warn;
events { worker_connections 64; }
http { client_body_temp_path $PWD/$1/t1; proxy_temp_path $PWD/$1/t2; fastcgi_temp_path $PWD/$1/t3;
uwsgi_temp_path $PWD/$1/t4; scgi_temp_path $PWD/$1/t5; $3 }
END
}
workers() { cat "/proc/$1/task/$1/children" 2> /dev/null; }
settled() {
  for _ in $(seq 1000); do
    now=" $(workers "$1")"; good=1
    [ "$(wc -w <<< "$now")" = "$2" ] || good=
    for old in \${@:3}; do case "$now" in *" $old "*) good= ;; esac; done
    [ -n "$good" ] && return
    sleep 0.02
  done
  echo "not settled: $now"
}
logged() { until [ "$(wc -l < log)" = "$1" ]; do sleep 0.02; done; }
pages() { run bash -c 'for i in $(seq 12); do curl -sS --max-time 20 "$0" & done; wait' "$1" | sort | uniq -c; }
`;

function workersScript(reuseport: string): string {
  return `${NGINX}
configure web 3 "log_format seen '\\$remote_addr \\$server_addr:\\$server_port \\$status'; access_log $PWD/log seen;
  server { listen 127.0.0.1:$A${reuseport}; listen [::1]:$A${reuseport}; keepalive_requests 5;
    location / { return 200 \\"\\$remote_addr \\$server_addr:\\$server_port \\$connection_requests\\n\\"; } }"
serve nginx -p "$PWD/web" -c "$PWD/web/conf" -g 'daemon off;' & S=$!
ready "$A"; until [ -s web/pid ]; do sleep 0.02; done; M=$(cat web/pid)
settled "$M" 3
pages "http://127.0.0.1:$A/"; pages "http://[::1]:$A/"
echo "one worker is killed"; logged 24
victim=$(workers "$M" | cut -d ' ' -f 1); kill -9 "$victim"
settled "$M" 3 "$victim"
pages "http://127.0.0.1:$A/"
echo "reload"
old=$(workers "$M"); kill -HUP "$M"
settled "$M" 3 $old
pages "http://127.0.0.1:$A/"; pages "http://[::1]:$A/"
run curl -sS $(for i in $(seq 7); do echo "http://127.0.0.1:$A/$i"; done)
kill -QUIT "$M"; ended $S nginx
run curl -sS "http://127.0.0.1:$A/" 2>&1 | sed -E 's/after [0-9]+ ms/after N ms/'
sort log | uniq -c
sed -E 's/^[0-9/]+ [0-9:]+ //; s/[0-9]+#[0-9]+/PID/; s/process [0-9]+/process N/' web/errors`;
}

const SCRIPTS: Readonly<Record<string, Script>> = {
  "nginx: three workers, one of them killed, all of them replaced": {
    needs: [nginx, curl],
    listeners: 2,
    text: workersScript(""),
  },
  "nginx with reuseport: three workers, one of them killed, all of them replaced": {
    needs: [nginx, curl],
    listeners: 2,
    text: workersScript(" reuseport"),
  },
  "nginx: an upgrade of its binary (USR2), taken back once, and gone through with": {
    needs: [nginx, curl],
    listeners: 1,
    text: `${NGINX}
configure web 2 "access_log off; server { listen 127.0.0.1:$A; location / { return 200 \\"up \\$remote_addr \\$server_port\\n\\"; } }"
serve "$(command -v nginx)" -p "$PWD/web" -c "$PWD/web/conf" -g 'daemon on;' & S=$! # it starts itself by that path
ready "$A"; until [ -s web/pid ]; do sleep 0.02; done; M=$(cat web/pid)
settled "$M" 2
orphan() { until ! grep -q nginx "/proc/$(sed -n 's/^PPid:[[:space:]]*//p' "/proc/$M/status")/comm" 2> /dev/null; do sleep 0.02; done; }
orphan # until then it ignores USR2
upgrade() {
  kill -USR2 "$M"
  until [ -s web/pid.oldbin ] && [ -s web/pid ] && [ "$(cat web/pid)" != "$M" ]; do sleep 0.02; done
  N=$(cat web/pid); settled "$N" 2
}
upgrade; echo "both serve"; pages "http://127.0.0.1:$A/"
kill -QUIT "$N"; until ! [ -e "/proc/$N/exe" ]; do sleep 0.02; done
until [ "$(cat web/pid 2> /dev/null)" = "$M" ]; do sleep 0.02; done
echo "taken back"; pages "http://127.0.0.1:$A/"
settled "$M" 2
upgrade; kill -WINCH "$M"; settled "$M" 1 # the new master is its child as well
echo "the new one serves"; pages "http://127.0.0.1:$A/"
kill -QUIT "$M"; until ! [ -e "/proc/$M/exe" ]; do sleep 0.02; done
echo "the old one is gone"; pages "http://127.0.0.1:$A/"
kill -QUIT "$N"; until ! [ -e "/proc/$N/exe" ]; do sleep 0.02; done
ended $S nginx
run curl -sS "http://127.0.0.1:$A/" 2>&1 | sed -E 's/after [0-9]+ ms/after N ms/'
sed -E 's/^[0-9/]+ [0-9:]+ //; s/[0-9]+#[0-9]+/PID/; s/process [0-9]+/process N/' web/errors`,
  },
  "nginx as reverse proxy: connections kept and made anew, an upload, an upstream that ends and comes back": {
    needs: [nginx, curl],
    listeners: 3,
    text: `${NGINX}
back() { configure back 1 "access_log off; server { listen 127.0.0.1:$B; client_max_body_size 9m;
  location / { return 200 \\"\\$remote_addr \\$server_port \\$request_method \\$http_connection \\$connection_requests\\n\\"; } }"
  serve nginx -p "$PWD/back" -c "$PWD/back/conf" -g 'daemon off;'; }
configure front 1 "log_format seen '\\$uri \\$status \\$upstream_status \\$upstream_addr'; access_log $PWD/log seen;
  upstream kept { server 127.0.0.1:$B max_fails=0; keepalive 4; } upstream anew { server 127.0.0.1:$B max_fails=0; }
  server { listen 127.0.0.1:$A; client_max_body_size 9m;
    location /kept { proxy_pass http://kept; proxy_http_version 1.1; proxy_set_header Connection \\"\\"; }
    location /anew { proxy_pass http://anew; } }"
back & U=$!
ready "$B"
serve nginx -p "$PWD/front" -c "$PWD/front/conf" -g 'daemon off;' & S=$!
ready "$A"
url="http://127.0.0.1:$A"
for i in 1 2 3; do run curl -sS "$url/kept" "$url/anew"; done
head -c 3000000 /dev/zero > file; run curl -sS -T file "$url/kept" -T file "$url/anew"
kill $U; ended $U upstream
for i in kept anew; do run curl -sS -o none -w '%{http_code}\\n' "$url/$i"; done
back & U=$!
ready "$B"
for i in 1 2; do run curl -sS "$url/kept" "$url/anew"; done
kill -QUIT "$(cat front/pid)"; ended $S front
kill $U; ended $U upstream
cat log
sed -E 's/^[0-9/]+ [0-9:]+ //; s/[0-9]+#[0-9]+: \\*[0-9]+/PID/' front/errors back/errors`,
  },
};

compareScripts(SCRIPTS);
