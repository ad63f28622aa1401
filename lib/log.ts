/** The logger that lower layers are handed; how it looks is the command line's business. */
export type Fields = Readonly<Record<string, string | number | boolean | undefined>>;

export type Logger = {
  error(message: string, fields?: Fields): void;
  warn(message: string, fields?: Fields): void;
  info(message: string, fields?: Fields): void;
  debug(message: string, fields?: Fields): void;
};

/** The most important first. */
const LEVELS: readonly (keyof Logger)[] = ["error", "warn", "info", "debug"];

/** @param lowest  of those that are written */
export function isWritten(level: keyof Logger, lowest: keyof Logger): boolean {
  return LEVELS.indexOf(level) <= LEVELS.indexOf(lowest);
}

const nothing = (): void => undefined;

/** Says nothing; for tests and libraries. */
export const SILENT: Logger = { error: nothing, warn: nothing, info: nothing, debug: nothing };
