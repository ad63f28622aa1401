/** The entry of `shmlink inspect` alone, from which a bundle is made that starts sooner than the whole. */
import { command } from "../../lib/cli/commands/inspect.ts";
import { main } from "../../lib/cli/main.ts";

void main(process.argv.slice(2), { inspect: { summary: command.summary, load: () => Promise.resolve(command) } });
