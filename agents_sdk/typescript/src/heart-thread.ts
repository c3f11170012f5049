// An agent's heart, as the thread that works sees it.

import { Worker } from "node:worker_threads";
import type { Address } from "./address.js";
import { errorFromBody, type ErrorBody } from "./errors.js";
import type { Signal } from "./heart.js";
import type { Level, Log } from "./log.js";
import type { Fields } from "./protocol.js";

/** What a heart is told when its thread begins. */
export interface HeartData {
  registration: Fields;
  version: string;
  address: Address;
  prefix: string;
  topics: readonly string[];
  maxConcurrency: number;
  /** The memory of the agent's `Vitals`. */
  memory: SharedArrayBuffer;
  /** Whether the application has an opinion of its own on its health. */
  hasHealth: boolean;
}

/** What the thread that works tells the heart. */
export type ToHeart =
  | { what: "moved" }
  | { what: "metrics"; metrics: Record<string, number> }
  | { what: "lastError"; topic: string; text: string }
  | { what: "awake" }
  | { what: "score"; score: number | undefined }
  | { what: "work"; connected: boolean }
  | { what: "leave"; announce: boolean }
  | { what: "release"; reason: string }
  | { what: "stop" };

/** What the heart tells the thread that works. */
export type ToWork =
  | { what: "signal"; signal: Exclude<Signal, { signal: "ended" }> }
  | { what: "ended"; body: ErrorBody | undefined; text: string }
  | { what: "knock" }
  | { what: "health" }
  | { what: "log"; level: Level; text: string }
  | { what: "done" };

/** Starts a heart, and speaks with it. */
export class HeartThread {
  readonly #worker: Worker;
  readonly #waiting: (() => void)[] = [];
  #stopping = false;
  #isGone = false;

  /**
   * @param tell Called with each signal.
   * @param score Returns the application's opinion of its health; undefined when the last one stands.
   */
  constructor(
    data: HeartData,
    private readonly tell: (signal: Signal) => void,
    private readonly score: () => Promise<number | undefined>,
    private readonly log: Log,
  ) {
    this.#worker = new Worker(new URL("./heart-worker.js", import.meta.url), { workerData: data });
    this.#worker.on("message", (message: ToWork) => this.#hear(message));
    this.#worker.on("error", (error) => tell({ signal: "ended", error }));
    this.#worker.on("exit", () => this.#exited());
  }

  /** Tells the heart something. */
  send(message: ToHeart): void {
    this.#worker.postMessage(message);
  }

  /** Says that the agent finishes its work; with `announce` it tells the registry, so that nobody sends new work. */
  leave(announce: boolean): Promise<void> {
    return this.#done({ what: "leave", announce });
  }

  /** Deregisters. */
  release(reason: string): Promise<void> {
    return this.#done({ what: "release", reason });
  }

  /** Ends the thread. */
  async stop(): Promise<void> {
    if (this.#stopping) return;
    this.#stopping = true;
    await this.#done({ what: "stop" });
    await this.#worker.terminate();
  }

  /** Asks for something and waits until it is done; answers come in the order of the questions. */
  #done(message: ToHeart): Promise<void> {
    return new Promise((resolve) => {
      if (this.#isGone) return resolve();
      this.#waiting.push(resolve);
      this.send(message);
    });
  }

  #hear(message: ToWork): void {
    switch (message.what) {
      case "signal":
        return this.tell(message.signal);
      case "ended":
        return this.tell({
          signal: "ended",
          error: message.body === undefined ? new Error(message.text) : errorFromBody(message.body as never),
        });
      case "knock":
        return this.send({ what: "awake" });
      case "health":
        return void this.score().then((score) => this.send({ what: "score", score }));
      case "log":
        return this.log(message.level, message.text);
      case "done":
        return this.#waiting.shift()?.();
    }
  }

  /** Has nobody wait for a thread that is gone. */
  #exited(): void {
    this.#isGone = true;
    for (const resolve of this.#waiting.splice(0)) resolve();
    if (!this.#stopping) this.tell({ signal: "ended", error: new Error("the heart's thread has ended") });
  }
}
