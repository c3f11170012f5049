// Serving an agent's topics: requests in, handlers run, replies out.

import type { Connection, Msg, Subscription } from "./connection.js";
import {
  InternalError,
  InvalidRequestError,
  OverloadedError,
  PayloadTooLargeError,
  type RegistryError,
  UnavailableError,
} from "./errors.js";
import type { Log } from "./log.js";
import { agentTopic, parse } from "./protocol.js";
import { now, within as keptWithin } from "./time.js";
import type { Vitals } from "./vitals.js";
import { type Work, working, workOf } from "./work.js";

/**
 * Takes the request, a JSON object; returns anything that is JSON, or a promise of it. The signal is raised when the
 * agent stops and its time for finishing is over.
 */
export type Handler = (request: any, signal: AbortSignal) => unknown;

/**
 * Runs handlers for the requests to one agent, so many at once and no more.
 *
 * What a handler throws becomes an error reply: `InvalidRequestError` tells the caller what is wrong with the request;
 * of anything else only the class is told, the rest is logged.
 */
export class Service {
  readonly #stopped = new AbortController();
  readonly #working = new Set<Promise<void>>();
  #subscriptions: Subscription[] = [];
  #refusal: RegistryError | undefined;

  /**
   * @param onWork Called when a request begins or ends.
   * @param onError Called with the text of an error that counts.
   */
  constructor(
    private readonly agentId: string,
    private readonly handlers: ReadonlyMap<string, Handler>,
    private readonly connection: Connection,
    private readonly vitals: Vitals,
    private readonly maxConcurrency: number,
    private readonly onWork: () => void,
    private readonly onError: (topic: string, text: string) => void,
    private readonly log: Log,
  ) {}

  /** Requests that are worked on now. */
  get inFlight(): number {
    return this.#working.size;
  }

  /** Whether work was given up that may be going on all the same. */
  get hasGivenUp(): boolean {
    return this.#stopped.signal.aborted;
  }

  /** Takes requests from now on; throws `UnavailableError` if NATS is away. */
  async open(): Promise<void> {
    this.unsubscribe();
    for (const [topic, handler] of this.handlers) {
      const subject = agentTopic(this.agentId, topic);
      this.#subscriptions.push(this.connection.subscribe(subject, (msg) => this.#take(msg, topic, handler)));
    }
    await this.connection.flush();
  }

  /** Begins nothing new: from now on requests are answered with 503, which sends callers elsewhere. */
  refuse(reason: string): void {
    this.#refusal = new UnavailableError(`${this.agentId} ${reason}`);
  }

  /** Waits for the work in flight; what is not done after so many seconds is answered with an error. */
  async finish(seconds: number): Promise<void> {
    if (await keptWithin(seconds, Promise.all(this.#working))) return;
    const late = this.#working.size;
    this.log("warning", `${this.agentId} gives up ${late} requests that are not done after ${seconds} s`);
    this.#stopped.abort();
    await Promise.all(this.#working);
  }

  /** Has NATS send no requests any more, and answers those that it has sent. */
  async close(): Promise<void> {
    const ending = this.#subscriptions.splice(0);
    if (ending.length === 0) return;
    try {
      await this.connection.drain(ending);
    } catch (error) {
      if (!(error instanceof UnavailableError)) throw error;
      this.log("warning", `requests to ${this.agentId} may stay without an answer: ${error.message}`);
    }
  }

  /** Takes no requests any more, not even to refuse them. */
  unsubscribe(): void {
    for (const subscription of this.#subscriptions.splice(0)) this.connection.unsubscribe(subscription);
  }

  #take(msg: Msg, topic: string, handler: Handler): void {
    const work = workOf(msg.headers);
    if (this.#refusal !== undefined) return this.#replyError(msg, this.#refusal);
    if (!this.vitals.begin(work.isCanary)) {
      const busy = `${this.agentId} is doing ${this.maxConcurrency} requests already`;
      return this.#replyError(msg, new OverloadedError(busy));
    }
    const doing = this.#work(msg, topic, handler, work).finally(() => this.#working.delete(doing));
    this.#working.add(doing);
    this.onWork();
  }

  async #work(msg: Msg, topic: string, handler: Handler, work: Work): Promise<void> {
    const started = now();
    let failure: RegistryError | undefined;
    try {
      const request = parse(msg.data);
      const answer = await this.#unlessStopped(working(work, async () => handler(request, this.#stopped.signal)));
      this.#reply(msg, asJson(answer));
    } catch (error) {
      if (error instanceof InvalidRequestError || error instanceof PayloadTooLargeError) {
        this.#replyError(msg, error);
      } else {
        failure = this.#failed(topic, error);
        this.#replyError(msg, failure);
      }
    }
    if (work.isCanary) return this.vitals.endCanary();
    this.vitals.end(topic, now() - started, failure !== undefined);
    if (failure !== undefined) this.onError(topic, `${failure.status}:${failure.message}`);
    this.onWork();
  }

  /** Waits for a handler, but not when the time for finishing is over: nothing can make it end. */
  #unlessStopped<T>(running: Promise<T>): Promise<T> {
    const { signal } = this.#stopped;
    return new Promise((resolve, reject) => {
      const stop = (): void => reject(new Stopped());
      if (signal.aborted) stop();
      signal.addEventListener("abort", stop);
      running.then(resolve, reject).finally(() => signal.removeEventListener("abort", stop));
    });
  }

  #failed(topic: string, error: unknown): RegistryError {
    if (error instanceof Stopped) return new InternalError(`${this.agentId} stopped before it was done`);
    this.log("error", `handler '${topic}' of ${this.agentId} failed: ${error instanceof Error ? error.stack : error}`);
    const what = error instanceof Error ? error.constructor.name : typeof error;
    return new InternalError(`${what} in handler '${topic}' of ${this.agentId}`);
  }

  #reply(msg: Msg, payload: string, headers?: Record<string, string>): void {
    if (!msg.reply) return;
    try {
      // Not msg.respond, which sends even while NATS is away, later.
      this.connection.publish(msg.reply, payload, headers);
    } catch (error) {
      if (!(error instanceof UnavailableError)) throw error;
      this.log("warning", `a reply of ${this.agentId} is lost: ${error.message}`);
    }
  }

  #replyError(msg: Msg, error: RegistryError): void {
    this.#reply(msg, JSON.stringify(error.toBody()), error.toHeaders());
  }
}

/** The agent stopped before a handler was done. */
class Stopped extends Error {}

/** Returns a handler's answer as JSON; nothing is `null`. */
function asJson(answer: unknown): string {
  const text = JSON.stringify(answer ?? null) as string | undefined;
  if (text === undefined) throw new TypeError(`a handler must return what is JSON; got ${typeof answer}`);
  return text;
}
