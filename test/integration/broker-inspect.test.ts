/** What inspect says of one thing beyond its counters: the rule that allowed it, and by which rights. */
import { expect, test } from "bun:test";
import { addSeals, constants, ftruncate, memfdCreate, pipe } from "../../ffi/mod.ts";
import type { Channel } from "../../lib/channel/channel.ts";
import type { BrokerLink } from "../../lib/client/broker-link.ts";
import { BrokerQuery } from "../../lib/client/broker-query.ts";
import { listenOn } from "../../lib/transport/listen.ts";
import { TestBroker } from "../helpers/broker.ts";
import { expectNoFdLeaks } from "../helpers/fd-leak.ts";

expectNoFdLeaks();

type Json = Readonly<Record<string, unknown>>;

async function inspect(broker: TestBroker, what: string | number): Promise<Json> {
  const { code, stdout, stderr } = await broker.run(["inspect", String(what), "--json"]);
  expect([code, stderr]).toEqual([0, ""]);
  return JSON.parse(stdout) as Json;
}

async function connectTo(link: BrokerLink, holder: BrokerLink, name: string): Promise<readonly [Channel, Channel]> {
  using service = holder.listen(name);
  const [near, far] = await Promise.all([link.dialAsync(name), service.acceptAsync()]);
  if (far === undefined) throw new Error("Nothing was accepted");
  return [near, far];
}

/** Registers a wrapped listener as its supervisor does, until the link is closed. */
function registerListener(broker: TestBroker): BrokerQuery {
  const link = BrokerQuery.connect({ name: "supervisor", env: broker.env });
  using counters = memfdCreate("counters");
  ftruncate(counters, 4096);
  addSeals(counters, constants.F_SEAL_SHRINK | constants.F_SEAL_GROW);
  const about = { address: "127.0.0.1", port: 8123, path: "/tmp/nobody.sock", flags: 0, pid: 0 };
  const listener = link.requestListener({ ...about, counters }, () => undefined);
  expect(link.wait(() => listener.settled, 10_000)).toBe("done");
  expect(listener.failure).toBeUndefined();
  return link;
}

/** One rule for each action, each with its own line. */
const RULES = [
  '[[allow]]\nname = "owner"\nuid = "owner"\naction = ["connect", "list"]\n',
  '[[allow]]\nname = "names"\nuid = "owner"\naction = "listen"\n',
  '[[allow]]\nname = "calls"\nuid = "owner"\naction = "dial"\n',
  '[[allow]]\nname = "ports"\nuid = "owner"\naction = "register"\n',
  '[[allow]]\nname = "sandboxes"\nuid = "owner"\naction = "context"\n',
  '[[allow]]\nname = "owner-fds"\nuid = "owner"\naction = "offer"\nfd = "pipe"\n',
  '[[allow]]\nname = "memory"\nuid = "owner"\naction = "offer"\nfd = "memfd"\n',
];

test("inspect names the rule that allowed it, with file and line, whatever it is; so does ls", async () => {
  await using broker = new TestBroker(RULES.join(""));
  const at = (line: number): string => `(${broker.configPath}:${line})`;
  using link = broker.connect({ wake: true });
  using _service = link.listen("files");
  const [near, far] = await connectTo(link, link, "talk");
  using _near = near;
  using _far = far;
  using _supervisor = registerListener(broker);
  using offer = link.offer("memory");
  using memory = memfdCreate("memory");
  offer.publish([memory]);
  using listener = listenOn(`${broker.directory}/context.sock`);
  const { reader, writer } = pipe();
  using closeFd = reader;
  using _open = writer;
  link.createContext({ engine: "test", app: "a", instance: "1", listener, closeFd });

  const rules = {
    files: `names ${at(5)}`,
    [near.channelId]: `calls ${at(9)}`,
    8123: `ports ${at(13)}`,
    memory: `owner-fds ${at(21)}`,
    "test/a/1": `sandboxes ${at(17)}`,
  };
  for (const [what, rule] of Object.entries(rules)) expect(await inspect(broker, what)).toMatchObject({ rule });
  expect(await inspect(broker, "memory")).toMatchObject({ fdsRule: `memory ${at(26)}` });
  expect((await broker.run(["inspect", "files"])).stdout).toContain(`rule      names ${at(5)}\n`);
  const { services, listeners, relayed, contexts } = JSON.parse((await broker.run(["ls", "--json"])).stdout) as Record<
    string,
    Json[]
  >;
  for (const listed of [services, listeners, relayed, contexts])
    expect(listed?.map(({ rule }) => String(rule).replace(/.* \(/, "("))).toEqual([expect.stringMatching(/:\d+\)$/)]);
});
