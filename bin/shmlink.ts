#!/usr/bin/env bun
/** The entry of the command line. */
import { main } from "../lib/cli/main.ts";

await main(process.argv.slice(2));
