// The connection to NATS: there, or on its way back.

import {
  connect,
  errors as nats,
  headers as newHeaders,
  type Msg,
  type NatsConnection,
  type Subscription as NatsSubscription,
} from "@nats-io/transport-node";
import { type Address, optionsFor, shownServers } from "./address.js";
import { ClosedError, ForbiddenError, PayloadTooLargeError, type RegistryError, UnavailableError } from "./errors.js";
import { type Log, QuietLog, toStderr } from "./log.js";
import { Backoff } from "./retry.js";
import { now, sleep, within as keptWithin } from "./time.js";

export type { Msg } from "@nats-io/transport-node";

/** Seconds after which a client that finds no server is replaced: it has forgotten those that it never reached. */
const FORGETFUL = 5;

/** Nobody listens on the subject of a request. */
export class NoRespondersError extends Error {}

/** No reply came in time. */
export class NoReplyError extends Error {}

/** Called with false when the connection is lost or closed, and with true when it is back. */
export type Listener = (connected: boolean) => void;

/** A subscription that outlives the client that it was made on. */
export interface Subscription {
  readonly subject: string;
  readonly callback: (msg: Msg) => void;
  /** Whether its owner can do without, should NATS not allow it. */
  readonly optional: boolean;
  inner?: NatsSubscription;
}

/**
 * A connection to NATS that comes back by itself, whatever closed it, with all its subscriptions.
 *
 * While NATS is away, publishing and requesting fail at once: what the client would keep for later leaves in a burst
 * the moment a server is back, before anybody else is there to hear it.
 */
export class Connection {
  #client: NatsConnection | undefined;
  #connected = false;
  readonly #closing = new AbortController();
  #awaySince: number | undefined;
  readonly #listeners = new Set<Listener>();
  readonly #subscriptions = new Set<Subscription>();
  readonly #quiet: QuietLog;

  constructor(
    private readonly address: Address,
    private readonly log: Log = toStderr,
  ) {
    this.#quiet = new QuietLog(log);
  }

  get isConnected(): boolean {
    return this.#connected;
  }

  get isClosed(): boolean {
    return this.#closing.signal.aborted;
  }

  /** Instant since which NATS is away, of `now()`; undefined while it is there. */
  get awaySince(): number | undefined {
    return this.#connected ? undefined : this.#awaySince;
  }

  /** By what NATS knows this connection now, as a registration says it. */
  get place(): { server_id: string; client_id: number } | undefined {
    const info = this.#connected ? this.#client?.info : undefined;
    return info?.server_id ? { server_id: info.server_id, client_id: info.client_id } : undefined;
  }

  listen(listener: Listener): void {
    this.#listeners.add(listener);
  }

  unlisten(listener: Listener): void {
    this.#listeners.delete(listener);
  }

  /**
   * Connects; a server that is not there gets `patience` seconds to come.
   *
   * Throws `UnavailableError` if none comes, `ForbiddenError` if they refuse the user, `ClosedError` if it is closed
   * meanwhile.
   */
  async open(patience: number): Promise<void> {
    const backoff = new Backoff(0.1, 5.0);
    const deadline = now() + patience;
    while (this.#client === undefined || this.isClosed) {
      if (this.isClosed) throw this.#away();
      try {
        await this.#dial();
      } catch (error) {
        if (this.isClosed) throw this.#away();
        if (!(error instanceof UnavailableError)) throw error;
        const pause = backoff.next();
        if (now() + pause >= deadline) throw error;
        this.#quiet.warning(`waiting for NATS: ${error.message}`);
        await sleep(pause, this.#closing.signal);
      }
    }
  }

  /** Sends what is written and closes. */
  async close(): Promise<void> {
    if (this.isClosed) return;
    const client = this.#client;
    const wasConnected = this.#connected;
    this.#closing.abort();
    this.#tell(false);
    this.#subscriptions.clear();
    if (client === undefined || client.isClosed()) return;
    const flushed = wasConnected ? client.flush().catch(() => undefined) : Promise.resolve(); // it may go meanwhile
    await keptWithin(this.address.timeout, flushed);
    await keptWithin(this.address.timeout, client.close());
  }

  /** Publishes a message, now or not at all. */
  publish(subject: string, payload: string | Uint8Array, headers?: Record<string, string>): void {
    const client = this.#present();
    try {
      client.publish(subject, payload, asHeaders(headers));
    } catch (error) {
      throw this.#translated(error, payload);
    }
  }

  /**
   * Sends a request and returns the reply.
   *
   * Throws `NoRespondersError`, `NoReplyError` after `within` seconds, `ForbiddenError`, `UnavailableError` if NATS is
   * away, `PayloadTooLargeError`.
   */
  async request(
    subject: string,
    payload: string | Uint8Array,
    within: number,
    headers?: Record<string, string>,
  ): Promise<Msg> {
    const client = this.#present();
    try {
      const timeout = Math.max(1, within * 1000);
      return await client.request(subject, payload, { timeout, ...asHeaders(headers) });
    } catch (error) {
      throw this.#translated(error, payload);
    }
  }

  /** Calls `callback` for each message, also after NATS was away. */
  subscribe(subject: string, callback: (msg: Msg) => void, optional = false): Subscription {
    const subscription: Subscription = { subject, callback, optional };
    this.#attach(this.#present(), subscription);
    this.#subscriptions.add(subscription);
    return subscription;
  }

  /** Ends a subscription; nothing is handed over after that. */
  unsubscribe(subscription: Subscription): void {
    this.#subscriptions.delete(subscription);
    if (subscription.inner && !subscription.inner.isClosed()) subscription.inner.unsubscribe();
  }

  /** Ends subscriptions, but not before everything is handed over that NATS has sent on them. */
  async drain(subscriptions: readonly Subscription[], within = 2): Promise<void> {
    for (const each of subscriptions) this.#subscriptions.delete(each);
    const ending = subscriptions.map((each) => each.inner).filter((inner) => inner && !inner.isClosed());
    if (!this.#connected) throw this.#away();
    const drained = Promise.all(ending.map((inner) => inner?.drain()));
    if (!(await keptWithin(within, drained))) throw new UnavailableError(`${this.#where} does not answer`);
  }

  /** Waits until the server has read everything written so far; throws `UnavailableError` if it does not in time. */
  async flush(within = 2): Promise<void> {
    const flushed = this.#present()
      .flush()
      .then(
        () => true,
        () => false,
      );
    if (!(await keptWithin(within, flushed)) || !(await flushed)) {
      throw new UnavailableError(`${this.#where} does not answer`);
    }
  }

  get #where(): string {
    return `NATS at ${shownServers(this.address)}`;
  }

  #away(): UnavailableError {
    if (this.isClosed) return new ClosedError(`the connection to ${this.#where} is closed`);
    return new UnavailableError(`there is no connection to ${this.#where}`);
  }

  #present(): NatsConnection {
    if (this.#client === undefined || !this.#connected) throw this.#away();
    return this.#client;
  }

  async #dial(): Promise<void> {
    let client: NatsConnection;
    try {
      client = await connect(optionsFor(this.address));
    } catch (error) {
      if (error instanceof nats.AuthorizationError) throw new ForbiddenError(`${this.#where} refuses this user`);
      throw new UnavailableError(`cannot reach ${this.#where}: ${error instanceof Error ? error.message : error}`);
    }
    if (this.isClosed) {
      await client.close();
      throw this.#away();
    }
    this.#client = client;
    for (const subscription of this.#subscriptions) this.#attach(client, subscription);
    void this.#follow(client);
    this.#back();
  }

  /** Follows what happens to a client; replaces one that has ended for good, for example as its user expired. */
  async #follow(client: NatsConnection): Promise<void> {
    let patience: NodeJS.Timeout | undefined;
    for await (const status of client.status()) {
      if (status.type === "disconnect") {
        this.#lost();
        if (this.address.servers.length > 1) patience ??= setTimeout(() => void client.close(), FORGETFUL * 1000);
      } else if (status.type === "reconnect") {
        clearTimeout(patience);
        patience = undefined;
        this.#back();
      } else if (status.type === "error") this.#complain(status.error);
    }
    clearTimeout(patience);
    if (this.isClosed) return;
    this.#lost();
    this.#client = undefined;
    this.log("warning", `${this.#called} to NATS has ended for good; making a new one`);
    const backoff = new Backoff(0.1, 5.0);
    while (this.#client === undefined && !this.isClosed) {
      await sleep(backoff.next(), this.#closing.signal);
      try {
        await this.#dial();
      } catch (error) {
        if (!this.isClosed) this.#quiet.warning(`${this.#called} to NATS is still lost: ${(error as Error).message}`);
      }
    }
  }

  get #called(): string {
    return this.address.name === undefined ? "the connection" : `the connection ${this.address.name}`;
  }

  #lost(): void {
    if (!this.#connected || this.isClosed) return;
    this.#awaySince = now();
    this.log("warning", `${this.#called} to ${this.#where} is lost; reconnecting`);
    this.#tell(false);
  }

  #back(): void {
    if (this.#connected || this.isClosed) return;
    if (this.#awaySince !== undefined) {
      this.log("info", `${this.#called} to NATS is back after ${(now() - this.#awaySince).toFixed(1)} s`);
    }
    this.#awaySince = undefined;
    this.#tell(true);
  }

  #tell(connected: boolean): void {
    this.#connected = connected;
    for (const listener of [...this.#listeners]) listener(connected);
  }

  #attach(client: NatsConnection, subscription: Subscription): void {
    subscription.inner = client.subscribe(subscription.subject, {
      callback: (error, msg) => {
        // What NATS does not allow comes as a status as well, and is told there.
        if (error === null) subscription.callback(msg);
      },
    });
  }

  #complain(error: Error): void {
    if (!(error instanceof nats.PermissionViolationError)) {
      this.log(this.#connected ? "warning" : "debug", `${this.#called} to NATS: ${error.message}`);
      return;
    }
    const { operation, subject } = error;
    const optional = [...this.#subscriptions].some((each) => each.optional && each.subject === subject);
    this.log(optional ? "info" : "error", `NATS does not allow this user the ${operation} to ${subject}`);
  }

  #translated(error: unknown, payload: string | Uint8Array): Error {
    const cause = error instanceof nats.RequestError && error.cause instanceof Error ? error.cause : error;
    if (error instanceof nats.NoRespondersError || cause instanceof nats.NoRespondersError) {
      return new NoRespondersError("nobody listens");
    }
    if (cause instanceof nats.TimeoutError) return new NoReplyError("no answer in time");
    if (cause instanceof nats.PermissionViolationError) return this.#forbidden(cause);
    if (cause instanceof nats.InvalidArgumentError && cause.message.includes("max_payload")) {
      return tooLarge(payload, this.#client);
    }
    if (cause instanceof nats.ClosedConnectionError || cause instanceof nats.RequestError) return this.#away();
    return cause instanceof Error ? cause : new Error(String(cause));
  }

  #forbidden({ operation, subject }: { operation: string; subject: string }): RegistryError {
    if (operation === "publish") return new ForbiddenError(`NATS does not allow this user to publish to ${subject}`);
    const hint = "set inboxPrefix to the one it may use";
    return new ForbiddenError(`NATS does not allow this user replies on ${subject}; ${hint}`);
  }
}

function asHeaders(pairs?: Record<string, string>) {
  if (pairs === undefined) return {};
  const headers = newHeaders();
  for (const [name, value] of Object.entries(pairs)) headers.set(name, value);
  return { headers };
}

function tooLarge(payload: string | Uint8Array, client: NatsConnection | undefined): PayloadTooLargeError {
  const limit = client?.info?.max_payload;
  return new PayloadTooLargeError(`payload: ${Buffer.byteLength(payload)} bytes; this NATS server takes ${limit}`);
}
