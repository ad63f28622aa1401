/** The process that holds descriptors for the broker after the one of a test. */
import { readdirSync, readlinkSync } from "node:fs";
import { type TestBroker, waitUntil } from "./broker.ts";

/** All is with the holder: nothing is younger than the moment after which it is put there. Until then what runs may be the
 *  shell that starts it, whose end is not the holder's.
 *  @param nFiles  two rings a channel, a file on offer ("note"), and the state that says what they are */
export async function untilHeld(broker: TestBroker, nFiles: number): Promise<void> {
  const held = (holder: number): string[] => openFilesOf(holder).filter((path) => /memfd:shmlink|note$/.test(path));
  await waitUntil(() => {
    const [holder] = broker.holders();
    return holder !== undefined && held(holder).length === nFiles;
  }, "a process that holds it all");
}

/** None of a process that has ended meanwhile: one holder takes over from another. */
function openFilesOf(pid: number): string[] {
  const all = unlessGone(() => readdirSync(`/proc/${pid}/fd`)) ?? [];
  return all.flatMap((number) => unlessGone(() => readlinkSync(`/proc/${pid}/fd/${number}`)) ?? []);
}

function unlessGone<T>(look: () => T): T | undefined {
  try {
    return look();
  } catch {
    return undefined;
  }
}
