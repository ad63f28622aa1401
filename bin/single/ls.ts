/** The entry of `shmlink ls` alone, from which a bundle is made that starts sooner than the whole. */
import { command } from "../../lib/cli/commands/ls.ts";
import { main } from "../../lib/cli/main.ts";

void main(process.argv.slice(2), { ls: { summary: command.summary, load: () => Promise.resolve(command) } });
