// Log lines of the SDK.

import { now } from "./time.js";

export type Level = "debug" | "info" | "warning" | "error";

/** Takes one line of the log. */
export type Log = (level: Level, text: string) => void;

/** Seconds between two lines about the same trouble. */
const QUIET = 30;

/** Writes to standard error, as `2026-11-23T23:33:35.549Z INFO a has left`. */
export const toStderr: Log = (level, text) => {
  if (level !== "debug") process.stderr.write(`${new Date().toISOString()} ${level.toUpperCase()} ${text}\n`);
};

/** Logs a warning of trouble that may last, unless there was one a short while ago. */
export class QuietLog {
  #until = -Infinity;

  constructor(private readonly log: Log) {}

  warning(text: string): void {
    if (now() < this.#until) return;
    this.#until = now() + QUIET;
    this.log("warning", text);
  }
}
