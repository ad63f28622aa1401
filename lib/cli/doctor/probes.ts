/** All that doctor asks, in the order in which it is shown. */

import { KERNEL_PROBES } from "./kernel.ts";
import { type Finding, type Probe, runProbe } from "./probe.ts";
import { SURROUNDINGS_PROBES } from "./surroundings.ts";
import { WRAP_PROBES } from "./wrap.ts";

const PROBES: readonly Probe[] = [...KERNEL_PROBES, ...WRAP_PROBES, ...SURROUNDINGS_PROBES];

export function runProbes(): Finding[] {
  return PROBES.map(runProbe);
}
