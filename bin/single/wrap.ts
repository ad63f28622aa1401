/** The entry of `shmlink wrap` alone, from which a bundle is made that starts sooner than the whole. */
import { command } from "../../lib/cli/commands/wrap.ts";
import { main } from "../../lib/cli/main.ts";

void main(process.argv.slice(2), { wrap: { summary: command.summary, load: () => Promise.resolve(command) } });
