// How an agent is doing, measured while it works: written by the thread that works, read by the one that beats.

/** Weight of the newest response time in the running average. */
const SMOOTHING = 0.2;

/** Load that differs this much from what was last reported is worth a report of its own. */
const MOVED = 0.1;

// Where each number stands in the memory that both threads share; a NaN is one that is not known.
const IN_FLIGHT = 0;
const SERVED = 1;
const FAILED = 2;
const SECONDS = 3;
const RESPONSE_TIME = 4;
const LOAD = 5;
const HEALTH = 6;
const REPORTED_LOAD = 7;
const TOPICS = 8;

/** The vitals at one instant; counts are totals since the agent started. */
export interface Reading {
  inFlight: number;
  loadFactor: number;
  healthScore: number;
  /** Running average in seconds; undefined before the first request. */
  responseTime: number | undefined;
  served: number;
  failed: number;
  /** Time spent on all served requests, summed up. */
  seconds: number;
}

/** What was counted of one topic; seconds from arrival to answer, summed up. */
export interface Counts {
  requests: number;
  errors: number;
  seconds: number;
}

/**
 * Counts what the agent does. One thread writes; another one that reads meanwhile may see a request counted and its
 * time not yet, which is no harm.
 */
export class Vitals {
  readonly #numbers: Float64Array;
  #canaries = 0;

  /** @param memory What `memory` of the other thread's is; new when left out. */
  constructor(
    private readonly maxConcurrency: number,
    private readonly topics: readonly string[],
    readonly memory: SharedArrayBuffer = fresh(topics.length),
  ) {
    this.#numbers = new Float64Array(memory);
  }

  /** Counts a request as in flight; returns false if that would be one too many. A canary is nobody's work: no load. */
  begin(canary: boolean): boolean {
    if (this.#get(IN_FLIGHT) + this.#canaries >= this.maxConcurrency) return false;
    if (canary) this.#canaries += 1;
    else this.#add(IN_FLIGHT, 1);
    return true;
  }

  endCanary(): void {
    this.#canaries -= 1;
  }

  /** Counts a request as done; `failed` says whether it failed by no fault of the caller. */
  end(topic: string, seconds: number, failed: boolean): void {
    const at = TOPICS + 3 * this.topics.indexOf(topic);
    this.#add(at, 1);
    this.#add(at + 1, failed ? 1 : 0);
    this.#add(at + 2, seconds);
    const average = this.#get(RESPONSE_TIME);
    this.#set(RESPONSE_TIME, Number.isNaN(average) ? seconds : average + SMOOTHING * (seconds - average));
    this.#add(SECONDS, seconds);
    this.#add(FAILED, failed ? 1 : 0);
    this.#add(SERVED, 1);
    this.#add(IN_FLIGHT, -1);
  }

  /** Takes what the application knows better; what is undefined stays as it is. */
  report(loadFactor: number | undefined, healthScore: number | undefined): void {
    if (loadFactor !== undefined) this.#set(LOAD, loadFactor);
    if (healthScore !== undefined) this.#set(HEALTH, healthScore);
  }

  read(): Reading {
    const responseTime = this.#get(RESPONSE_TIME);
    return {
      inFlight: this.#get(IN_FLIGHT),
      loadFactor: this.#load(),
      healthScore: this.#get(HEALTH),
      responseTime: Number.isNaN(responseTime) ? undefined : responseTime,
      served: this.#get(SERVED),
      failed: this.#get(FAILED),
      seconds: this.#get(SECONDS),
    };
  }

  /** Returns topic to what was counted of it. */
  counts(): Map<string, Counts> {
    return new Map(
      this.topics.map((topic, index) => {
        const at = TOPICS + 3 * index;
        return [topic, { requests: this.#get(at), errors: this.#get(at + 1), seconds: this.#get(at + 2) }];
      }),
    );
  }

  /** Takes note that this load was reported. */
  told(loadFactor: number): void {
    this.#set(REPORTED_LOAD, loadFactor);
  }

  /** Returns whether the load is another one than was reported; says so once for each move. */
  moved(): boolean {
    const load = this.#load();
    // Binary fractions: 0.1 above 0.2 is a little less than 0.3.
    if (Math.abs(load - this.#get(REPORTED_LOAD)) < MOVED - 1e-9) return false;
    this.#set(REPORTED_LOAD, load);
    return true;
  }

  #load(): number {
    const reported = this.#get(LOAD);
    return Number.isNaN(reported) ? this.#get(IN_FLIGHT) / this.maxConcurrency : reported;
  }

  #get(at: number): number {
    return this.#numbers[at] ?? NaN;
  }

  #set(at: number, value: number): void {
    this.#numbers[at] = value;
  }

  #add(at: number, value: number): void {
    this.#set(at, this.#get(at) + value);
  }
}

function fresh(topics: number): SharedArrayBuffer {
  const memory = new SharedArrayBuffer((TOPICS + 3 * topics) * Float64Array.BYTES_PER_ELEMENT);
  const numbers = new Float64Array(memory);
  numbers[RESPONSE_TIME] = numbers[LOAD] = NaN;
  numbers[HEALTH] = 1;
  return memory;
}

/** Returns the performance metrics of the time between two readings; all of it if there is none before. */
export function metricsBetween(reading: Reading, before: Reading | undefined): Record<string, number> {
  const served = reading.served - (before?.served ?? 0);
  const failed = reading.failed - (before?.failed ?? 0);
  const seconds = reading.seconds - (before?.seconds ?? 0);
  // A total: the registry weighs averages by how much it grew.
  if (served === 0) return { requests_served: reading.served };
  return { requests_served: reading.served, avg_response_time: seconds / served, success_rate: 1 - failed / served };
}
