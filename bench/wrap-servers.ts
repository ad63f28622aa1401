/** The servers that are measured, each native and under a supervisor. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { CPUS, pinned } from "./processors.ts";
import { type Bench, untilServed } from "./wrap-stage.ts";

export type Served = { readonly tcp: number; readonly unix: string; readonly wrapped: number };

/** `c`: under the least of supervisors; and who supervises. */
export type ServedThrice = Served & {
  readonly c: number;
  readonly supervisors: { readonly wrap: number; readonly c: number };
};

/** `filtered`: a Unix socket, native but for a filter that lets every call through. */
export async function startRedis(bench: Bench): Promise<Served & { readonly filtered: string }> {
  const filtered = join(bench.folder, "filtered.sock");
  const served = { tcp: bench.port(), unix: join(bench.folder, "redis.sock"), wrapped: bench.port() };
  const common = pinned(CPUS[0], ["redis-server", "--save", "", "--appendonly", "no", "--bind", "127.0.0.1"]);
  bench.start([...common, "--port", String(served.tcp), "--unixsocket", served.unix], "nothing");
  bench.start([...common, "--port", String(served.wrapped)], "wrap");
  bench.start([...common, "--port", "0", "--unixsocket", filtered], "filter");
  await Promise.all([...Object.values(served), filtered].map(untilServed));
  return { ...served, filtered };
}

/** Of plain clients it knows nothing: none can ask whether it is there. */
const C_STARTS_MS = 500;

function nginxFolder(bench: Bench, name: string, listen: string): string[] {
  const folder = join(bench.folder, name);
  mkdirSync(folder);
  const temp = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(
    (each) => `${each}_temp_path ${folder}/${each};`,
  );
  writeFileSync(
    join(folder, "conf"),
    `daemon off; worker_processes 1; pid ${folder}/pid; error_log ${folder}/error.log crit;
events { worker_connections 256; }
http { access_log off; keepalive_requests 1000000000; ${temp.join(" ")}
  server { ${listen} location / { return 200 "hello\\n"; } } }
`,
  );
  return pinned(CPUS[0], ["nginx", "-p", folder, "-c", join(folder, "conf")]);
}

export async function startNginx(bench: Bench): Promise<ServedThrice> {
  const served = { tcp: bench.port(), unix: join(bench.folder, "nginx.sock"), wrapped: bench.port(), c: bench.port() };
  const both = `listen 127.0.0.1:${served.tcp} backlog=511; listen unix:${served.unix} backlog=511;`;
  bench.start(nginxFolder(bench, "native", both), "nothing");
  const under = (name: "wrap" | "c", port: number): number =>
    bench.start(nginxFolder(bench, name, `listen 127.0.0.1:${port};`), name).pid ?? Number.NaN;
  const supervisors = { wrap: under("wrap", served.wrapped), c: under("c", served.c) };
  await Promise.all([served.tcp, served.unix, served.wrapped].map(untilServed));
  await new Promise((resolve) => setTimeout(resolve, C_STARTS_MS));
  return { ...served, supervisors };
}
