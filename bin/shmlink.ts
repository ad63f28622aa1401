#!/usr/bin/env bun
/** The entry of the command line. */
import { COMMANDS } from "../lib/cli/command-table.ts";
import { main } from "../lib/cli/main.ts";

// Not awaited: a module that awaits at its top cannot be kept as bytecode. It ends the process, whatever happens.
void main(process.argv.slice(2), COMMANDS);
