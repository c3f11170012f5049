// What an agent tells of itself, in heartbeats and in answers to health checks.

import type { Fields } from "./protocol.js";
import { now } from "./time.js";
import { metricsBetween, type Reading, type Vitals } from "./vitals.js";

/** Seconds of lateness from which the work thread counts as blocked. */
const BLOCKED = 1.0;

/** Seconds for which the work connection must stay away, although NATS is there, before requests count as lost. */
const MISSED = 2.0;

/** Metrics that are measured here; the application may report its own in their place. */
export const OWN_METRICS = ["requests_served", "avg_response_time", "success_rate", "uptime", "work_loop_lag"];

/** How late the work thread is: it is knocked at now and then. */
export class Pulse {
  #knockedAt: number | undefined;
  #lag = 0;

  /** @param sendKnock Has the work thread cause a call of `answer`. */
  constructor(private readonly sendKnock: () => void) {}

  /** Knocks, unless the last knock has not been answered. */
  knock(): void {
    if (this.#knockedAt !== undefined) return;
    this.#knockedAt = now();
    this.sendKnock();
  }

  answer(): void {
    if (this.#knockedAt === undefined) return;
    this.#lag = now() - this.#knockedAt;
    this.#knockedAt = undefined;
  }

  /** Seconds. */
  get lag(): number {
    return this.#knockedAt === undefined ? this.#lag : Math.max(this.#lag, now() - this.#knockedAt);
  }
}

/** Whether requests reach an agent: tells the loss of the work connection from an outage of NATS. */
export class Reach {
  /** Since when the work connection is away, as the heart knows it. */
  #workAwaySince: number | undefined;
  #thereSince = Infinity;

  /** Takes note that the work connection is there, or lost. */
  noteWork(connected: boolean): void {
    this.#workAwaySince = connected ? undefined : (this.#workAwaySince ?? now());
  }

  /** Takes note that the heart's own connection is there, or lost. */
  note(connected: boolean): void {
    this.#thereSince = connected ? now() : Infinity;
  }

  get holds(): boolean {
    if (this.#workAwaySince === undefined) return true;
    // An outage takes both: what counts is for how long the work connection stayed away by itself.
    return now() - Math.max(this.#workAwaySince, this.#thereSince) < MISSED;
  }
}

/** Puts together what is measured of an agent. */
export class Condition {
  /** What the application reports of itself. */
  metrics: Record<string, number> = {};
  #taken: Reading | undefined;
  #saidOut = false;

  /** @param score Returns the application's own opinion of its health; undefined if it has none. */
  constructor(
    private readonly vitals: Vitals,
    private readonly pulse: Pulse,
    private readonly reach: Reach,
    private readonly score: (() => Promise<number>) | undefined,
  ) {}

  /** Whether the work thread is too late to begin anything. */
  get isBlocked(): boolean {
    return this.pulse.lag >= BLOCKED;
  }

  /** Whether the last beat said otherwise of whether anything new could begin. */
  get isNews(): boolean {
    return this.#isOut !== this.#saidOut;
  }

  /** Returns a reading, and the fields of the heartbeat that reports it. */
  async beat(uptime: number | undefined): Promise<{ reading: Reading; fields: Fields }> {
    const reading = this.vitals.read();
    this.#saidOut = this.#isOut;
    const loadFactor = this.#load(reading);
    this.vitals.told(loadFactor);
    const metrics: Record<string, number> = {
      ...metricsBetween(reading, this.#taken),
      work_loop_lag: rounded(this.pulse.lag, 6),
      ...(uptime === undefined ? {} : { uptime: rounded(uptime, 3) }),
      ...this.metrics,
    };
    const fields: Fields = { health_score: await this.#score(reading), load_factor: loadFactor, metrics };
    if (reading.responseTime !== undefined) fields["response_time"] = reading.responseTime;
    return { reading, fields };
  }

  /** Takes note that the registry has a reading: the next one counts from there. */
  taken(reading: Reading): void {
    if (this.#taken === undefined || reading.served >= this.#taken.served) this.#taken = reading;
  }

  /** Returns the answer to a health check. */
  async answer(): Promise<Fields> {
    const reading = this.vitals.read();
    return {
      status: this.#isOut ? "busy" : "ok",
      health_score: await this.#score(reading),
      load_factor: this.#load(reading),
      in_flight: reading.inFlight,
      work_loop_lag: rounded(this.pulse.lag, 6),
    };
  }

  /** Whether it could not begin anything new; then it counts as fully loaded. */
  get #isOut(): boolean {
    return this.isBlocked || !this.reach.holds;
  }

  #load(reading: Reading): number {
    return this.#isOut ? 1 : Math.min(1, reading.loadFactor);
  }

  async #score(reading: Reading): Promise<number> {
    return this.score === undefined ? reading.healthScore : await this.score();
  }
}

function rounded(value: number, digits: number): number {
  return Number(value.toFixed(digits));
}
