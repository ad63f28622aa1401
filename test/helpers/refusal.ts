/** What somebody hears whose request is refused. */
import { FailureError } from "../../lib/errors.ts";

/** @returns "code: message" @throws Error when it is not refused, and whatever is no refusal */
export function refusal(act: () => unknown): string {
  try {
    act();
  } catch (error) {
    if (error instanceof FailureError) return `${error.code}: ${error.message}`;
    throw error;
  }
  throw new Error("It was not refused");
}
