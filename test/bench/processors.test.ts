/** Two processors that are one core are measured as what they are not. */
import { describe, expect, test } from "bun:test";
import { choosePair, type Processor, readCpuList } from "../../bench/processors.ts";

const of = (cpu: number, core: string, cache: string): Processor => ({ cpu, core, cache });

describe("the processors of a benchmark", () => {
  test("a list of the kernel's is read with ranges", () => {
    expect(readCpuList("0-2,5,8-9")).toEqual([0, 1, 2, 5, 8, 9]);
    expect(readCpuList("3")).toEqual([3]);
  });

  test("the second is not the other thread of the first's core", () => {
    const all = [of(0, "0-1", "0-3"), of(1, "0-1", "0-3"), of(2, "2-3", "0-3"), of(3, "2-3", "0-3")];
    expect(choosePair(all)).toEqual([0, 2]);
  });

  test("the second shares the first's last cache where one does", () => {
    expect(choosePair([of(4, "4", "4,9"), of(5, "5", "5"), of(9, "9", "4,9")])).toEqual([4, 9]);
    expect(choosePair([of(4, "4", "4"), of(5, "5", "5")])).toEqual([4, 5]);
  });

  test("two threads are better than one processor, which is better than none", () => {
    expect(choosePair([of(0, "0-1", ""), of(1, "0-1", "")])).toEqual([0, 1]);
    expect(choosePair([of(7, "7", "")])).toEqual([7, 7]);
    expect(() => choosePair([])).toThrow("Cannot measure without a processor");
  });
});
