// An agent's lease at the registry: when to register, when to beat, when to give up.
//
// Pure: facts and instants come in, orders come out, and chance comes in with the constructor.
//
// A lease is held from the receipt of a registration on. A beat that is answered `not_found` means that the registry
// knows the agent no more: it registers again, as the same instance. A beat that is answered `stale_incarnation` means
// that another instance has taken its place: it ends. Unless that instance is itself: it registered with a bucket, then
// with another one, and the first is back. Then it registers again. All other troubles are weather: the next beat
// comes, however long they last.

import {
  InternalError,
  NotFoundError,
  OverloadedError,
  type RegistryError,
  StaleIncarnationError,
  UnavailableError,
} from "./errors.js";
import { Backoff } from "./retry.js";

/** Beats come up to this share of the interval early, so that agents that started together drift apart. */
export const JITTER = 0.1;

/** Share of the interval within which the first beat comes, at most `CATCH_UP` seconds. */
export const FIRST_BEAT = 0.1;

/** Seconds within which an agent is heard of after an outage. Not at once: all of them are back at the same time. */
export const CATCH_UP = 1.0;

/** Seconds between two beats at least when they come early, because something changed. */
export const EARLY_GAP = 0.25;

/** Seconds after a registration that cleared a mistake up: the same again within them is no mistake. */
export const MISTAKEN_GAP = 10.0;

/** Seconds between two attempts to register at most. */
const RETRY_CEILING = 5.0;

export type Fact =
  /** NATS is there, or away. */
  | { fact: "connected" }
  | { fact: "disconnected" }
  /** The registration is durable; `interval` is the seconds between two beats that the registry expects. */
  | { fact: "granted"; incarnation: number; interval: number }
  /** The registration failed. */
  | { fact: "refused"; error: RegistryError }
  /** A beat was taken; `reserved` is how many slots assignments reserve. */
  | { fact: "answered"; grant: number; status: string; reserved: number }
  /** A beat was refused, or nobody answered it. */
  | { fact: "failed"; grant: number; error: RegistryError }
  /** A beat was refused for a newer instance, which is this one. */
  | { fact: "mistaken"; grant: number; error: RegistryError }
  /** The agent has something new to say. */
  | { fact: "moved" }
  /** Something was heard that makes the lease doubtful; only the registry's answer to a beat decides. */
  | { fact: "doubted" }
  /** The agent is on its way out: it beats on while it finishes, but does not register any more. */
  | { fact: "leaving" }
  /** The agent gave its lease up. */
  | { fact: "released" }
  /** `Lease.due` has come. */
  | { fact: "tick" };

export type Order =
  /** Register. Ends in `granted` or `refused`. */
  | { order: "register" }
  /** Send a heartbeat. Ends in `answered`, `failed` or `mistaken`, with the same `grant`. */
  | { order: "beat"; grant: number; incarnation: number; seq: number }
  /** The registry wants the agent to finish and leave. */
  | { order: "drain" }
  /** Stop serving: the lease cannot be had, or another instance has it. */
  | { order: "end"; error: RegistryError };

export type LeaseState = "unregistered" | "registering" | "held" | "ended";

/** Returns whether an error passes; any other refusal of a registration is final. */
export function isWeather(error: RegistryError): boolean {
  return error instanceof UnavailableError || error instanceof OverloadedError || error instanceof InternalError;
}

/** One agent's lease. */
export class Lease {
  state: LeaseState = "unregistered";
  incarnation = 0;
  /** Counts the registrations of this process. */
  grant = 0;
  readonly #backoff: Backoff;
  #connected = false;
  #leaving = false;
  #toldToDrain = false;
  /** Whether the next registration comes of a mistake. */
  #clearsUp = false;
  #clearedUpAt = -Infinity;
  #interval = Infinity;
  #seq = 0;
  #due = -Infinity;
  #beatAt = -Infinity;
  #grantedAt: number | undefined;
  #countedTo = 0;
  #up = 0;

  /** @param random Returns a number from 0 up to but without 1. */
  constructor(private readonly random: () => number) {
    this.#backoff = new Backoff(0.1, RETRY_CEILING, random);
  }

  /** Instant of the next tick; infinite while there is nothing to do but to wait for something else. */
  get due(): number {
    const waits = this.state === "registering" || this.state === "ended" || !this.#connected;
    return waits ? Infinity : this.#due;
  }

  /** Returns the percentage of time since the first registration in which it was registered and connected. */
  uptime(now: number): number | undefined {
    if (this.#grantedAt === undefined) return undefined;
    this.#count(now);
    const life = now - this.#grantedAt;
    return life <= 0 ? 100 : Math.min(100, (100 * this.#up) / life);
  }

  /** Takes a fact, returns orders. `now` is in seconds of any steady clock. */
  handle(fact: Fact, now: number): Order[] {
    if (this.state === "ended") return [];
    this.#count(now);
    switch (fact.fact) {
      case "tick":
        return this.#tick(now);
      case "granted":
        return this.#granted(fact.incarnation, fact.interval, now);
      case "refused":
        return this.#refused(fact.error, now);
      case "answered":
        return this.#answered(fact.grant, fact.status, fact.reserved);
      case "failed":
        return this.#failed(fact.grant, fact.error, now);
      case "mistaken":
        return this.#mistaken(fact.grant, fact.error, now);
      default:
        this.#note(fact.fact, now);
        return [];
    }
  }

  #note(fact: "connected" | "disconnected" | "moved" | "doubted" | "leaving" | "released", now: number): void {
    switch (fact) {
      case "connected":
        this.#connected = true;
        if (this.#grantedAt === undefined) return;
        // What is overdue waits, too: everybody else is back at the same time.
        this.#due = Infinity;
        return this.#hurry(now, this.#soon());
      case "disconnected":
        this.#connected = false;
        return;
      case "moved":
        if (this.state === "held") this.#hurry(now, 0);
        return;
      case "doubted":
        return this.#hurry(now, this.#soon());
      case "leaving":
        this.#leaving = true;
        if (this.state === "unregistered") this.state = "ended";
        return;
      case "released":
        this.state = "ended";
    }
  }

  #tick(now: number): Order[] {
    if (now < this.due) return [];
    if (this.state === "unregistered") {
      this.state = "registering";
      return [{ order: "register" }];
    }
    this.#beatAt = now;
    this.#due = now + this.#interval * (1 - JITTER * this.random());
    this.#seq += 1;
    return [{ order: "beat", grant: this.grant, incarnation: this.incarnation, seq: this.#seq }];
  }

  #granted(incarnation: number, interval: number, now: number): Order[] {
    this.state = "held";
    this.grant += 1;
    this.incarnation = incarnation;
    // `seq` counts on: a registry that knows this incarnation drops what it takes for old.
    this.#interval = interval;
    this.#toldToDrain = false;
    this.#backoff.reset();
    if (this.#clearsUp) [this.#clearsUp, this.#clearedUpAt] = [false, now];
    this.#beatAt = now;
    this.#due = now + this.random() * Math.min(CATCH_UP, FIRST_BEAT * interval);
    if (this.#grantedAt === undefined) this.#grantedAt = this.#countedTo = now;
    return [];
  }

  #refused(error: RegistryError, now: number): Order[] {
    if (!isWeather(error)) {
      this.state = "ended";
      return [{ order: "end", error }];
    }
    this.state = this.#leaving ? "ended" : "unregistered";
    this.#due = now + this.#backoff.next();
    return [];
  }

  #answered(grant: number, status: string, reserved: number): Order[] {
    if (grant !== this.grant || status !== "deregistering" || this.#toldToDrain) return [];
    if (reserved > 0) return []; // the registry waits for what was assigned to be done, and then gives the order
    // The order itself is a plain message and may have been lost.
    this.#toldToDrain = true;
    return [{ order: "drain" }];
  }

  #failed(grant: number, error: RegistryError, now: number): Order[] {
    if (grant !== this.grant || this.state !== "held") return [];
    if (error instanceof StaleIncarnationError) {
      this.state = "ended";
      return [{ order: "end", error }];
    }
    if (error instanceof NotFoundError) this.#lose(now);
    return [];
  }

  #mistaken(grant: number, error: RegistryError, now: number): Order[] {
    if (grant !== this.grant || this.state !== "held") return [];
    if (now - this.#clearedUpAt < MISTAKEN_GAP) {
      this.state = "ended";
      return [{ order: "end", error }];
    }
    this.#clearsUp = true;
    this.#lose(now);
    return [];
  }

  /** Has it register again soon; not at once, for it is not the only one. */
  #lose(now: number): void {
    this.state = this.#leaving ? "ended" : "unregistered";
    this.#due = now + this.#soon();
  }

  #soon(): number {
    return this.random() * Math.min(CATCH_UP, this.#interval);
  }

  /** Beats or registers in `wait` seconds, but not within `EARLY_GAP` of the last beat, nor later than planned. */
  #hurry(now: number, wait: number): void {
    const earliest = this.state === "held" ? this.#beatAt + EARLY_GAP : -Infinity;
    this.#due = Math.min(this.#due, Math.max(now + wait, earliest));
  }

  #count(now: number): void {
    if (this.state === "held" && this.#connected) this.#up += now - this.#countedTo;
    this.#countedTo = now;
  }
}
