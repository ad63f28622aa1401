import { expect, test } from "bun:test";
import { pathToFileURL } from "node:url";
import { modulePath } from "../../../lib/util/module-path.ts";

test("modulePath() undoes what makes a URL of a path", () => {
  for (const path of ["/a/b.ts", "/with space/100%/ü#?.js"]) expect(modulePath(pathToFileURL(path).href)).toBe(path);
});
