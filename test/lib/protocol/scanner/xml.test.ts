/** The XML reader: what it understands, and where it says something is wrong. */
import { expect, test } from "bun:test";
import { parseXml } from "../../../../lib/protocol/scanner/xml.ts";

test("parseXml() reads elements, attributes, text, comments, entities and lines", () => {
  const root = parseXml(
    '<?xml version="1.0"?>\n<!-- c -->\n<a x="1 &amp; 2" y=\'"\'>t&lt;<!-- <no> -->\n<b/>&#x41;&#66;</a>\n',
    "f",
  );
  expect(root).toMatchObject({ name: "a", line: 3, text: "t<\nAB" });
  expect([...root.attributes]).toEqual([
    ["x", "1 & 2"],
    ["y", '"'],
  ]);
  expect(root.children.map(({ name, line }) => [name, line])).toEqual([["b", 4]]);
});

const WRONG: [string, string][] = [
  ["", "f:1: Expected an element"],
  ["text", "f:1: Expected an element"],
  ["<a>\n<b>\n</a>", "f:3: Expected </b> for line 2, found </a>"],
  ["<a>\n<b>\n", "f:2: Element <b> is never closed"],
  ["<a/>\n<b/>", "f:2: Expected nothing after the root element"],
  ["<a x=1/>", 'f:1: Expected ">" or an attribute in <a>'],
  ["<a\nx='1'\nx='2'/>", 'f:3: Attribute "x" of <a> is there twice'],
  ["<a>\n&nbsp;</a>", 'f:2: Unknown entity "&nbsp;"'],
  ["<a>&lt</a>", 'f:1: Unknown entity "&lt"'],
  ["<a>&#x110000;</a>", 'f:1: Unknown entity "&#x110000;"'],
  ["<a>\n<!-- </a>", 'f:2: "<!--" has no "-->"'],
  ["<a><1/></a>", "f:1: Expected the name of an element"],
];

test.each(WRONG)("parseXml(%j) says %s", (source, message) => {
  expect(() => parseXml(source, "f")).toThrow(message);
});
