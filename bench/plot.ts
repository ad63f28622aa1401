/** Latency and throughput over message size as one SVG: a column for each placement, both axes logarithmic. */
import type { Placement, Series, SizeProfile } from "./profile-shape.ts";

const WIDTH = 1160;
const PANEL = { width: 470, height: 300, left: 70, top: 84, columnGap: 90, rowGap: 78 } as const;
const LEGEND_HEIGHT = 62;
const STYLE: Record<string, { readonly colour: string; readonly dash?: string }> = {
  "shmlink on bun": { colour: "#c2410c" },
  "shmlink on deno": { colour: "#0f766e" },
  "shmlink on node": { colour: "#4d7c0f" },
  "C ring": { colour: "#111827", dash: "6 4" },
  "C pipe": { colour: "#7c3aed", dash: "2 3" },
  "C Unix socket": { colour: "#2563eb", dash: "2 3" },
  "C TCP loopback": { colour: "#db2777", dash: "2 3" },
};
const TITLES: Record<Placement, string> = { two: "a processor each", one: "both on one processor" };

type Measure = {
  readonly title: string;
  readonly of: (size: SizeProfile) => number;
  readonly upper?: (size: SizeProfile) => number;
  readonly label: (value: number) => string;
};

const MEASURES: readonly Measure[] = [
  {
    title: "Round trip: median, and p99 thin",
    of: ({ rttNs }) => rttNs.p50,
    upper: ({ rttNs }) => rttNs.p99,
    label: (ns) => (ns < 1e3 ? `${ns} ns` : ns < 1e6 ? `${ns / 1e3} µs` : `${ns / 1e6} ms`),
  },
  {
    title: "Throughput, one send for each message",
    of: ({ size, messagesPerSecond }) => size * messagesPerSecond,
    label: (rate) => (rate < 1e6 ? `${rate / 1e3} kB/s` : rate < 1e9 ? `${rate / 1e6} MB/s` : `${rate / 1e9} GB/s`),
  },
];

type Range = { readonly low: number; readonly high: number };

export function plotProfile(all: readonly Series[]): string {
  const placements = (["two", "one"] as const).filter((each) => all.some(({ placement }) => placement === each));
  const names = Object.keys(STYLE).filter((name) => all.some((series) => series.name === name));
  const height = PANEL.top + MEASURES.length * (PANEL.height + PANEL.rowGap) + LEGEND_HEIGHT;
  const parts = [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" font-family="Helvetica, Arial, sans-serif" font-size="12" fill="#374151">`,
    `<rect width="${WIDTH}" height="${height}" fill="#ffffff"/>`,
    text(
      PANEL.left,
      34,
      "Messages between two processes of one machine",
      'font-size="19" font-weight="bold" fill="#111827"',
    ),
  ];
  for (const [row, measure] of MEASURES.entries()) {
    const range = decades(
      all.flatMap(({ sizes }) => sizes.flatMap((size) => [measure.of(size), measure.upper?.(size) ?? 0])),
    );
    for (const [column, placement] of placements.entries()) {
      const x = PANEL.left + column * (PANEL.width + PANEL.columnGap);
      const y = PANEL.top + row * (PANEL.height + PANEL.rowGap);
      const series = all.filter((each) => each.placement === placement);
      parts.push(text(x, y - 12, `${measure.title}; ${TITLES[placement]}`, 'font-size="13" font-weight="bold"'));
      parts.push(panel(x, y, measure, range, series));
    }
  }
  parts.push(legend(names, height - LEGEND_HEIGHT + 20), "</svg>");
  return `${parts.join("\n")}\n`;
}

function text(x: number, y: number, content: string, attributes = ""): string {
  return `<text x="${round(x)}" y="${round(y)}" ${attributes}>${content.replace(/&/g, "&amp;").replace(/</g, "&lt;")}</text>`;
}

function line(x1: number, y1: number, x2: number, y2: number, attributes: string): string {
  return `<line x1="${round(x1)}" y1="${round(y1)}" x2="${round(x2)}" y2="${round(y2)}" ${attributes}/>`;
}

const round = (value: number): number => Math.round(value * 10) / 10;

/** Whole powers of ten around all values above 0. */
function decades(values: readonly number[]): Range {
  const logs = values.filter((value) => value > 0).map(Math.log10);
  return { low: Math.floor(Math.min(...logs)), high: Math.ceil(Math.max(...logs)) };
}

function panel(x: number, y: number, measure: Measure, range: Range, all: readonly Series[]): string {
  const sizes = [...new Set(all.flatMap((series) => series.sizes.map(({ size }) => size)))].sort((a, b) => a - b);
  const [first = 1, last = 2] = [sizes[0], sizes.at(-1)];
  const across = (size: number): number => x + (PANEL.width * Math.log2(size / first)) / Math.log2(last / first);
  const up = (value: number): number =>
    y + PANEL.height - (PANEL.height * (Math.log10(value) - range.low)) / (range.high - range.low);
  const parts: string[] = [];
  for (let decade = range.low; decade <= range.high; decade++) {
    const at = up(10 ** decade);
    parts.push(line(x, at, x + PANEL.width, at, 'stroke="#e5e7eb"'));
    parts.push(text(x - 8, at + 4, measure.label(10 ** decade), 'text-anchor="end"'));
  }
  for (const size of sizes) {
    parts.push(line(across(size), y, across(size), y + PANEL.height, 'stroke="#f3f4f6"'));
    parts.push(text(across(size), y + PANEL.height + 18, sizeLabel(size), 'text-anchor="middle"'));
  }
  parts.push(`<rect x="${x}" y="${y}" width="${PANEL.width}" height="${PANEL.height}" fill="none" stroke="#9ca3af"/>`);
  for (const { name, sizes } of all) {
    const { colour = "#000000", dash } = STYLE[name] ?? {};
    const path = (of: (size: SizeProfile) => number): string =>
      sizes.map((size) => `${round(across(size.size))},${round(up(of(size)))}`).join(" ");
    const stroke = `fill="none" stroke="${colour}"${dash === undefined ? "" : ` stroke-dasharray="${dash}"`}`;
    if (measure.upper !== undefined)
      parts.push(`<polyline points="${path(measure.upper)}" ${stroke} stroke-width="0.7" opacity="0.6"/>`);
    parts.push(`<polyline points="${path(measure.of)}" ${stroke} stroke-width="2"/>`);
    for (const size of sizes)
      parts.push(
        `<circle cx="${round(across(size.size))}" cy="${round(up(measure.of(size)))}" r="2.6" fill="${colour}"/>`,
      );
  }
  return parts.join("\n");
}

function sizeLabel(bytes: number): string {
  if (bytes < 1024) return `${bytes} B`;
  return bytes < 2 ** 20 ? `${bytes / 1024} KiB` : `${bytes / 2 ** 20} MiB`;
}

function legend(names: readonly string[], y: number): string {
  const step = (WIDTH - PANEL.left) / Math.max(names.length, 1);
  return names
    .map((name, index) => {
      const x = PANEL.left + index * step;
      const { colour = "#000000", dash } = STYLE[name] ?? {};
      const stroke = `stroke="${colour}" stroke-width="2"${dash === undefined ? "" : ` stroke-dasharray="${dash}"`}`;
      return `${line(x, y, x + 26, y, stroke)}\n${text(x + 32, y + 4, name)}`;
    })
    .join("\n");
}
