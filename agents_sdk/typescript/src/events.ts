// The registry's events as they happen.

import { type Connection, type Msg, type Subscription } from "./connection.js";
import { ClosedError, refusal } from "./errors.js";
import type { Log } from "./log.js";
import type { AssignmentLost, ConflictEvent, RegistryEvent, ScalingOrder, StatusEvent } from "./messages.js";
import { type Fields, parse, type Subjects } from "./protocol.js";

export const EVENT_KINDS = ["status", "scaling", "conflict", "registry", "assignment"] as const;

/** Events that may wait for a slow reader; beyond that the oldest are dropped. */
const MAX_QUEUED = 10_000;

/** An event with its kind, which says what it looks like. */
export type Event =
  | { kind: "status"; event: StatusEvent }
  | { kind: "scaling"; event: ScalingOrder }
  | { kind: "registry"; event: RegistryEvent }
  | { kind: "assignment"; event: AssignmentLost }
  | { kind: "conflict"; event: ConflictEvent }
  /** One of a kind that this version does not know. */
  | { kind: "other"; event: Fields };

export type EventKind = (typeof EVENT_KINDS)[number];

/** Returns the event in a message; undefined if it holds none, which is logged. */
export function readEvent(subjects: Subjects, subject: string, payload: Uint8Array, log: Log): Event | undefined {
  const named = subjects.kindOf(subject);
  const kind = (EVENT_KINDS as readonly string[]).includes(named) ? named : "other";
  try {
    return { kind, event: parse(payload) } as unknown as Event;
  } catch (error) {
    // Anybody may be allowed to publish there.
    log("warning", `events: ${subject} carries no event: ${(error as Error).message}`);
    return undefined;
  }
}

/** What waits for a reader; the end of the connection ends it. */
export class Inflow<T> {
  readonly #items: T[] = [];
  #wake: (() => void) | undefined;

  constructor(private readonly limit = MAX_QUEUED) {}

  /** Adds an item; returns false if the oldest one had to go for it. */
  push(item: T): boolean {
    this.#items.push(item);
    this.#wake?.();
    if (this.#items.length <= this.limit) return true;
    this.#items.shift();
    return false;
  }

  /** Has who waits look again. */
  wake(): void {
    this.#wake?.();
  }

  shift(): T | undefined {
    return this.#items.shift();
  }

  clear(): void {
    this.#items.length = 0;
  }

  /** Waits until something was pushed, somebody says `wake`, or so many seconds have passed. */
  async wait(seconds = Infinity): Promise<void> {
    if (this.#items.length > 0) return;
    await new Promise<void>((resolve) => {
      const timer = seconds === Infinity ? undefined : setTimeout(resolve, Math.max(0, seconds * 1000));
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
    this.#wake = undefined;
  }
}

/** Yields each event from now on; throws `ClosedError` when the connection is closed. */
export async function* liveEvents(
  connection: Connection,
  subjects: Subjects,
  kinds: readonly EventKind[],
  log: Log,
): AsyncGenerator<Event, void, void> {
  const unknown = kinds.find((kind) => !EVENT_KINDS.includes(kind));
  if (unknown !== undefined) throw refusal("kinds", `'${unknown}' is none of ${EVENT_KINDS.join(", ")}`);
  const inflow = new Inflow<Msg>();
  const wake = (): void => inflow.wake();
  const patterns = kinds.length > 0 ? kinds.map((kind) => subjects.events(kind)) : [subjects.events()];
  const subscriptions: Subscription[] = patterns.map((each) => connection.subscribe(each, (msg) => inflow.push(msg)));
  connection.listen(wake);
  try {
    for (;;) {
      const msg = inflow.shift();
      if (msg === undefined) {
        if (connection.isClosed) throw new ClosedError("the connection to NATS is closed");
        await inflow.wait();
        continue;
      }
      const event = readEvent(subjects, msg.subject, msg.data, log);
      if (event !== undefined) yield event;
    }
  } finally {
    connection.unlisten(wake);
    for (const subscription of subscriptions) connection.unsubscribe(subscription);
  }
}
