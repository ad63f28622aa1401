/** The path of a module from its `import.meta.url`. node:url does the same and costs every start two milliseconds. */
export function modulePath(url: string): string {
  return decodeURIComponent(new URL(url).pathname);
}
