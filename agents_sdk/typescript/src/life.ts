// The life of an agent: it connects, registers, serves, drains and leaves. Once.

import type { Connection } from "./connection.js";
import { UnavailableError } from "./errors.js";
import type { Signal } from "./heart.js";
import type { HeartThread } from "./heart-thread.js";
import type { Log } from "./log.js";
import type { Receipt } from "./messages.js";
import { DRAIN } from "./protocol.js";
import { Backoff } from "./retry.js";
import type { Service } from "./serving.js";
import { sleep } from "./time.js";

/** A promise, and how it is kept or broken. */
class Deferred<T> {
  resolve!: (value: T) => void;
  reject!: (error: Error) => void;
  isSettled = false;
  readonly promise: Promise<T>;

  constructor() {
    this.promise = new Promise((resolve, reject) => {
      this.resolve = (value) => {
        this.isSettled = true;
        resolve(value);
      };
      this.reject = (error) => {
        this.isSettled = true;
        reject(error);
      };
    });
    this.promise.catch(() => undefined); // nobody may be waiting; how it ended has been logged
  }
}

/**
 * Brings an agent's parts up and down in the right order.
 *
 * Topics are subscribed after registering: until then the id may be another instance's, and so is its work. When
 * leaving they are given up last, after deregistering, so that whoever still asks is sent elsewhere at once.
 */
export class Life {
  isServing = false;
  hasBegun = false;
  heart: HeartThread | undefined;
  readonly #registered = new Deferred<Receipt>();
  readonly #over = new Deferred<void>();
  readonly #leaving = new AbortController();
  #receipt: Receipt | undefined;
  #ending: Promise<void> | undefined;

  /**
   * @param makeHeart Makes the heart, from where it tells its signals.
   * @param drainTimeout Seconds that the work in flight gets in the end.
   */
  constructor(
    private readonly agentId: string,
    private readonly connection: Connection,
    private readonly service: Service,
    private readonly makeHeart: (tell: (signal: Signal) => void) => HeartThread,
    private readonly drainTimeout: number,
    private readonly log: Log,
  ) {}

  /** The incarnation it was first registered as, 0 before. */
  get incarnation(): number {
    return this.#receipt?.incarnation ?? 0;
  }

  /** Whether work was given up that may be going on all the same. */
  get hasGivenUp(): boolean {
    return this.service.hasGivenUp;
  }

  /** Connects, registers and serves. Whoever ends it meanwhile has this return when it is over. */
  async begin(): Promise<void> {
    if (this.hasBegun) throw new Error(`${this.agentId} has been started before; make another Agent`);
    this.hasBegun = true;
    try {
      await this.#bringUp();
    } catch (error) {
      // What is raised because somebody ends it is no news.
      if (this.#ending === undefined) {
        this.#ending = this.#abandon(error as Error);
        await this.#ending;
        throw error;
      }
    }
    if (this.#ending !== undefined) {
      await this.#ending;
      await this.over();
    }
  }

  /** Drains and leaves; returns when that is done, whoever began it. */
  async end(): Promise<void> {
    if (!this.hasBegun || this.#over.isSettled) return;
    this.#ending ??= this.#leave("stopped", undefined, true);
    await this.#ending;
  }

  /** Waits for the end; throws `StaleIncarnationError` if another instance has taken the id over. */
  async over(): Promise<void> {
    if (!this.hasBegun) throw new Error(`${this.agentId} has not been started`);
    await this.#over.promise;
  }

  async #bringUp(): Promise<void> {
    const { signal } = this.#leaving;
    await this.connection.open(Infinity);
    if (signal.aborted) return;
    this.heart = this.makeHeart((told) => this.#hear(told));
    const left = new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve()));
    await Promise.race([this.#registered.promise, left]);
    const backoff = new Backoff(0.1, 5.0);
    while (!this.isServing && !signal.aborted) {
      try {
        await this.service.open();
        this.isServing = !signal.aborted;
      } catch (error) {
        if (!(error instanceof UnavailableError)) throw error;
        await sleep(backoff.next(), signal);
      }
    }
  }

  #hear(told: Signal): void {
    switch (told.signal) {
      case "registered":
        this.#receipt ??= told.receipt;
        if (!this.#registered.isSettled) this.#registered.resolve(told.receipt);
        else if (this.#ending === undefined) {
          this.log("info", `${this.agentId} is registered again, as incarnation ${told.receipt.incarnation}`);
        }
        return;
      case "drain":
        if (this.#ending !== undefined) return;
        this.log("info", `${this.agentId} is told to drain${told.reason === DRAIN ? "" : `: ${told.reason}`}`);
        this.#ending = this.#leave(told.reason, told.deadline, false);
        return;
      case "ended":
        if (!this.#registered.isSettled) this.#registered.reject(told.error);
        else if (this.#ending === undefined) {
          this.log("error", `${this.agentId} stops serving: ${told.error.message}`);
          this.#ending = this.#giveUp(told.error);
        }
    }
  }

  /**
   * Finishes the work in flight, deregisters, goes.
   *
   * @param deadline Unix time by which it should be gone.
   * @param announce Whether the registry has yet to learn that the agent takes no new work.
   */
  async #leave(reason: string, deadline: number | undefined, announce: boolean): Promise<void> {
    this.#leaving.abort();
    const left = deadline === undefined ? Infinity : Math.max(0, deadline - Date.now() / 1000);
    try {
      this.service.refuse("is draining and takes no new work; ask another agent");
      if (this.heart !== undefined) {
        const isWorking = this.service.inFlight > 0;
        await Promise.all([
          this.heart.leave(announce && isWorking),
          this.service.finish(Math.min(this.drainTimeout, left)),
        ]);
        await this.heart.release(reason);
      }
      await this.service.close();
    } finally {
      await this.#shut();
      this.log("info", `${this.agentId} has left`);
    }
  }

  /** Stops without deregistering: the id is another instance's, which also gets the requests. */
  async #giveUp(error: Error): Promise<void> {
    this.#leaving.abort();
    try {
      this.service.unsubscribe();
      await this.service.finish(this.drainTimeout);
    } finally {
      await this.#shut(error);
    }
  }

  /** Undoes as much as has begun. */
  async #abandon(error: Error): Promise<void> {
    this.#leaving.abort();
    try {
      await this.heart?.leave(false);
      await this.heart?.release("did not start");
    } finally {
      await this.#shut(error);
    }
  }

  async #shut(error?: Error): Promise<void> {
    this.isServing = false;
    this.service.unsubscribe();
    await this.heart?.stop();
    await this.connection.close();
    if (error === undefined) this.#over.resolve();
    else this.#over.reject(error);
  }
}
