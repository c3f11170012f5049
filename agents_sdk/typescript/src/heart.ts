// The heart: registers, beats and answers health checks. It lives in a thread of its own, see heart-worker.ts.

import type { Address } from "./address.js";
import { type Condition, Pulse, Reach } from "./condition.js";
import { Connection } from "./connection.js";
import { Ears } from "./ears.js";
import { InternalError, NotFoundError, RegistryError, StaleIncarnationError } from "./errors.js";
import { type Fact, isWeather, Lease, type Order } from "./lease.js";
import { type Log, QuietLog } from "./log.js";
import type { Ack, Receipt } from "./messages.js";
import type { MicroService } from "./micro.js";
import { DRAIN, type Fields, type Subjects } from "./protocol.js";
import { REGISTER_TIMEOUT, Requester } from "./requester.js";
import { Backoff } from "./retry.js";
import { now, sleep } from "./time.js";

/** Seconds to wait for the answer to a beat. */
const BEAT_TIMEOUT = 2.0;

/** Seconds that an agent which leaves waits to hear whether it has been registered. */
const SETTLE_TIMEOUT = 3.0;

/** Seconds between two looks at the work thread. */
const KNOCK_INTERVAL = 0.5;

/** Milliseconds that a timer takes at most: longer ones would end at once. */
const LONGEST_TIMER = 2 ** 31 - 1;

export type Signal =
  /** The registration is durable. */
  | { signal: "registered"; receipt: Receipt }
  /** The registry wants the agent to finish and leave; `deadline` is the Unix time by which it should be gone. */
  | { signal: "drain"; reason: string; deadline: number | undefined }
  /** The agent must not serve (any more). */
  | { signal: "ended"; error: Error };

/** What a heart is made of. */
export interface HeartParts {
  /** What to register, `agent_id` and `instance_id` included. */
  registration: Fields;
  address: Address;
  subjects: Subjects;
  condition: Condition;
  pulse: Pulse;
  reach: Reach;
  service: MicroService;
  tell: (signal: Signal) => void;
  log: Log;
}

/** Keeps one agent's lease. */
export class Heart {
  readonly #agentId: string;
  readonly #ears: Ears;
  readonly #lease = new Lease(Math.random);
  readonly #connection: Connection;
  readonly #requester: Requester;
  readonly #over = new AbortController();
  readonly #quiet: QuietLog;
  #timer: NodeJS.Timeout | undefined;
  #settled: () => void = () => undefined;
  #unheardSince: number | undefined;

  constructor(private readonly parts: HeartParts) {
    const { registration, address, subjects, condition, service, tell, log } = parts;
    this.#agentId = String(registration["agent_id"]);
    this.#connection = new Connection(address, log);
    this.#requester = new Requester(this.#connection, subjects, BEAT_TIMEOUT);
    this.#quiet = new QuietLog(log);
    this.#ears = new Ears(
      this.#agentId,
      String(registration["instance_id"]),
      subjects,
      this.#connection,
      condition,
      service,
      (reason, deadline) => tell({ signal: "drain", reason, deadline }),
      () => this.note({ fact: "doubted" }),
      log,
    );
  }

  /** Begins; signals tell how it goes. */
  async start(): Promise<void> {
    try {
      await this.#connection.open(Infinity);
    } catch (error) {
      if (!this.#over.signal.aborted) this.parts.tell({ signal: "ended", error: error as Error });
      return;
    }
    this.#connection.listen((connected) => this.#onLink(connected));
    this.#onLink(true);
    void this.#watchWork();
  }

  /** Tells the lease something, and carries out what it orders then. */
  note(fact: Fact): void {
    if (this.#over.signal.aborted) return;
    for (const order of this.#lease.handle(fact, now())) this.#carryOut(order);
    if (this.#lease.state !== "registering") this.#settled();
    clearTimeout(this.#timer);
    const due = this.#lease.due;
    if (due === Infinity) return;
    const wait = Math.min(LONGEST_TIMER, Math.max(0, (due - now()) * 1000));
    // A timer may be a little early by another clock: then the tick does nothing but to wait on.
    this.#timer = setTimeout(() => this.note({ fact: "tick" }), Math.ceil(wait));
  }

  /** Says that the agent finishes its work; with `announce` it tells the registry, so that nobody sends new work. */
  async leave(announce: boolean): Promise<void> {
    this.#ears.isLeaving = true;
    this.note({ fact: "leaving" });
    if (!announce || this.#lease.state !== "held") return;
    try {
      await this.#command(DRAIN, "the agent is stopping");
    } catch (error) {
      this.#expected(error, "info", `the registry does not know that ${this.#agentId} is leaving`);
    }
  }

  /** Deregisters; what goes wrong is logged, since the registry finds out by itself. */
  async release(reason: string): Promise<void> {
    if (this.#lease.state === "registering") {
      // A registration on its way would leave a ghost behind.
      await Promise.race([new Promise<void>((resolve) => (this.#settled = resolve)), sleep(SETTLE_TIMEOUT)]);
    }
    if (this.#lease.state !== "held") return;
    try {
      await this.#command("deregister", reason);
      this.parts.log("info", `${this.#agentId} deregistered`);
    } catch (error) {
      const isGone = error instanceof NotFoundError || error instanceof StaleIncarnationError;
      if (isGone) this.parts.log("info", `${this.#agentId} was not registered any more: ${error.message}`);
      else this.#expected(error, "warning", `${this.#agentId} could not deregister, and the registry will notice`);
    }
    this.note({ fact: "released" });
  }

  /** Ends it. */
  async stop(): Promise<void> {
    this.#over.abort();
    clearTimeout(this.#timer);
    await this.#connection.close();
  }

  #carryOut(order: Order): void {
    switch (order.order) {
      case "register":
        return void this.#register();
      case "beat":
        return void this.#beat(order);
      case "drain":
        return this.parts.tell({ signal: "drain", reason: DRAIN, deadline: undefined });
      case "end":
        return this.parts.tell({ signal: "ended", error: order.error });
    }
  }

  async #register(): Promise<void> {
    const { registration } = this.parts;
    let receipt: Receipt;
    try {
      // Once it was ours, the id is not taken from anybody any more: whoever has it now took it from us.
      const takeover = Boolean(registration["takeover"]) && this.#lease.grant === 0;
      // Health checks are answered on this connection: its end is worth asking after.
      const fields = { ...registration, takeover, connection: this.#connection.place };
      const options = { within: REGISTER_TIMEOUT, repeat: false };
      receipt = (await this.#requester.ask("register", fields, options)) as unknown as Receipt;
    } catch (error) {
      const refused = this.#asRegistryError(error, `registering ${this.#agentId}`);
      // What is final is told once, by whoever started the agent.
      if (isWeather(refused)) this.#quiet.warning(`${this.#agentId} is not registered yet: ${refused.message}`);
      return this.note({ fact: "refused", error: refused });
    }
    this.#ears.incarnation = receipt.incarnation;
    this.note({ fact: "granted", incarnation: receipt.incarnation, interval: receipt.heartbeat_interval });
    await this.#listen();
    this.parts.tell({ signal: "registered", receipt });
  }

  /** Hears the registry, but not before the id is ours: to answer for its holder would hide that holder's death. */
  async #listen(): Promise<void> {
    const backoff = new Backoff(0.1, 5.0);
    while (!this.#over.signal.aborted) {
      try {
        return await this.#ears.open();
      } catch (error) {
        // Whatever it is: to give up would leave it registered and deaf.
        this.#quiet.warning(`${this.#agentId} does not hear the registry yet: ${(error as Error).message}`);
        await sleep(backoff.next(), this.#over.signal);
      }
    }
  }

  async #beat(beat: { grant: number; incarnation: number; seq: number }): Promise<void> {
    const { grant, incarnation, seq } = beat;
    try {
      const { reading, fields } = await this.parts.condition.beat(this.#lease.uptime(now()));
      const identity = { agent_id: this.#agentId, incarnation, seq };
      const ack = (await this.#requester.ask("heartbeat", { ...fields, ...identity })) as unknown as Ack;
      this.#heard();
      this.parts.condition.taken(reading);
      this.note({ fact: "answered", grant, status: ack.status, reserved: ack.reserved ?? 0 });
    } catch (error) {
      const failure = this.#asRegistryError(error, `a heartbeat of ${this.#agentId}`);
      if (failure instanceof StaleIncarnationError) return this.note(await this.#judge(grant, incarnation, failure));
      this.#unheard(failure);
      this.note({ fact: "failed", grant, error: failure });
    }
  }

  /** Finds out whether the newer instance, for which a beat was refused, is this one itself. */
  async #judge(grant: number, incarnation: number, stale: StaleIncarnationError): Promise<Fact> {
    let holder: Fields;
    try {
      holder = await this.#requester.ask("get", { agent_id: this.#agentId });
    } catch (error) {
      const failure = this.#asRegistryError(error, `asking for the holder of ${this.#agentId}`);
      this.#unheard(failure);
      // To end is for good: after weather the next beat asks again.
      return { fact: "failed", grant, error: isWeather(failure) ? failure : stale };
    }
    const isOurs = holder["instance_id"] === this.parts.registration["instance_id"];
    // A replica that lags shows us as we were before we were replaced.
    if (!isOurs || !(Number(holder["incarnation"]) > incarnation)) return { fact: "failed", grant, error: stale };
    const known = `${this.#agentId} is known as incarnation ${holder["incarnation"]} of this same instance`;
    this.parts.log("warning", `${known}: the registry has an older bucket again`);
    return { fact: "mistaken", grant, error: stale };
  }

  async #command(operation: string, reason: string): Promise<void> {
    // Names the incarnation: should another instance have the id by now, that one is not meant.
    await this.#requester.ask(operation, { agent_id: this.#agentId, incarnation: this.#lease.incarnation, reason });
  }

  /** Has the registry know soon when the agent can begin nothing any more, or can again. */
  async #watchWork(): Promise<void> {
    const { pulse, condition, log } = this.parts;
    let blocked = false;
    while (!this.#over.signal.aborted) {
      pulse.knock();
      await sleep(KNOCK_INTERVAL, this.#over.signal);
      if (condition.isBlocked !== blocked) {
        blocked = !blocked;
        if (blocked) log("warning", `the work thread of ${this.#agentId} is blocked; it counts as fully loaded`);
      }
      if (condition.isNews) this.note({ fact: "moved" });
    }
  }

  #onLink(connected: boolean): void {
    this.parts.reach.note(connected);
    this.note({ fact: connected ? "connected" : "disconnected" });
  }

  /** Returns what went wrong as the registry would say it; what nobody expects is logged as a defect. */
  #asRegistryError(error: unknown, what: string): RegistryError {
    if (error instanceof RegistryError) return error;
    this.parts.log("error", `${what} failed: ${error instanceof Error ? error.stack : error}`);
    return new InternalError(String(error));
  }

  #expected(error: unknown, level: "info" | "warning", what: string): void {
    if (!(error instanceof RegistryError)) throw error;
    this.parts.log(level, `${what}: ${error.message}`);
  }

  #unheard(error: RegistryError): void {
    this.#unheardSince ??= now();
    this.#quiet.warning(`a heartbeat of ${this.#agentId} was not taken: ${error.message}`);
  }

  #heard(): void {
    if (this.#unheardSince === undefined) return;
    this.parts.log("info", `${this.#agentId} is heard again after ${(now() - this.#unheardSince).toFixed(1)} s`);
    this.#unheardSince = undefined;
  }
}
