/** What is wrong in a protocol file is reported with its line. */
import { expect, test } from "bun:test";
import { checkReferences, readProtocol } from "../../../../lib/protocol/scanner/model.ts";

/** A protocol with `body` from line 3 on. */
function protocol(body: string): string {
  return `<protocol name="p">\n<interface name="i" version="2">\n${body}\n</interface>\n</protocol>\n`;
}

const WRONG: [string, string, string][] = [
  ["an unknown element", '<reqest name="a"/>', "p.xml:3: <reqest> does not belong in <interface>"],
  ["an unknown attribute", '<request nmae="a"/>', 'p.xml:3: Unknown attribute "nmae" of <request>'],
  ["a missing attribute", "\n<request/>", 'p.xml:4: <request> lacks attribute "name"'],
  ["an unknown kind of message", '<request name="a" type="x"/>', 'p.xml:3: Unknown type "x": only destructor'],
  [
    "a message of a later version",
    '<event name="a" since="3"/>',
    "p.xml:3: It is since version 3, the interface has only 2",
  ],
  ["a name twice", '<event name="a"/>\n<event name="a"/>', 'p.xml:4: event "a" is there twice'],
  ["a name in capitals", '<event name="A"/>', 'p.xml:3: Name "A" is not lower case with underscores'],
  [
    "an unknown type",
    '<event name="a">\n<arg name="b" type="u32"/></event>',
    'p.xml:4: Unknown type "u32": int, uint,',
  ],
  [
    "an argument called kind",
    '<event name="a"><arg name="kind" type="int"/></event>',
    'p.xml:3: An argument cannot be called "kind"',
  ],
  ["a null fd", '<event name="a"><arg name="b" type="fd" allow-null="true"/></event>', "p.xml:3: A fd cannot be null"],
  [
    "an interface of an int",
    '<event name="a"><arg name="b" type="int" interface="i"/></event>',
    "p.xml:3: A int has no interface",
  ],
  [
    "a value that is no number",
    '<enum name="e"><entry name="a" value="1x"/></enum>',
    'p.xml:3: value "1x" is not a number',
  ],
  ["two descriptions", '<description summary="a"/><description summary="b"/>', "p.xml:3: A second description"],
  [
    "an unknown interface",
    '<event name="a">\n<arg name="b" type="object" interface="j"/></event>',
    'p.xml:4: Argument "b" names interface "j"',
  ],
  [
    "an unknown enum",
    '<event name="a"><arg name="b" type="uint" enum="e"/></event>',
    'p.xml:3: Argument "b" names enum "e"',
  ],
];

test.each(WRONG)("readProtocol() reports %s", (_what, body, message) => {
  expect(() => checkReferences(readProtocol(protocol(body), "p.xml"))).toThrow(message);
});

test("checkReferences() reports an interface that two files have", () => {
  const [a, b] = ["a.xml", "b.xml"].map((file) => readProtocol(protocol(""), file));
  expect(() => checkReferences([...(a ?? []), ...(b ?? [])])).toThrow('b.xml:1: Interface "i" is there twice');
});

test("readProtocol() reads an enum of another interface, hexadecimal and both quotes", () => {
  const body = `<enum name='e'><entry name="a" value="0x1f"/></enum>
    <event name="a"><arg name="b" type="uint" enum='i.e'/></event>`;
  const model = readProtocol(protocol(body), "p.xml");
  checkReferences(model);
  expect(model[0]?.enums[0]?.entries[0]?.value).toBe(31);
});
