/** How many there are, as one says it: "1 line", "2 lines". @param noun  one that takes an s */
export function howMany(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}
