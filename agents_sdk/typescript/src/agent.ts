// An agent: registers, serves its topics, is heard of, drains and leaves.

import { randomBytes } from "node:crypto";
import { type Address, serverUrls } from "./address.js";
import { checkHeartbeat, checkRegistration, isTopic } from "./checks.js";
import { RegistryClient } from "./client.js";
import { OWN_METRICS } from "./condition.js";
import { Connection } from "./connection.js";
import { refusal, RegistryError } from "./errors.js";
import type { Signal } from "./heart.js";
import { HeartThread } from "./heart-thread.js";
import { Life } from "./life.js";
import { type Log, toStderr } from "./log.js";
import { agentTopic, DEFAULT_PREFIX, DRAIN, type Fields, HEALTH_CHECK, Subjects } from "./protocol.js";
import { type Handler, Service } from "./serving.js";
import { Vitals } from "./vitals.js";

/** Exit code of an agent that the registry refuses or has replaced: to start it again as it is does not help. */
export const REFUSED = 3;

const DEFAULT_MAX_CONCURRENCY = 64;
const DEFAULT_DRAIN_TIMEOUT = 30;

/** Seconds after which an attempt at a NATS server has failed. */
const DIAL_TIMEOUT = 2;

/** Topics that the SDK serves itself. */
const OURS = [HEALTH_CHECK, DRAIN];

export interface AgentOptions {
  /** Type of agent, for example `trading_agent`. */
  agentType: string;
  /** What it can do; at least one. */
  capabilities: readonly string[];
  /** Stable id. When left out, what the variable `AGENT_REGISTRY_AGENT_ID` says; else one made from the type. */
  agentId?: string;
  /** Labels to search by. */
  tags?: readonly string[];
  /** Free-form object, at most 16 KiB as JSON. */
  metadata?: Fields;
  /** Version of its software; 1.0.0 when left out. */
  version?: string;
  /** URLs of NATS servers, comma-separated; `NATS_URL`, else this machine's when left out. */
  nats?: string;
  /** NATS credentials file. */
  credentials?: string;
  /** First token or tokens of the registry's subjects. */
  prefix?: string;
  /** First tokens of the subjects on which replies arrive. */
  inboxPrefix?: string;
  /** Seconds between heartbeats, 0.1 to 3600; the registry's setting when left out. */
  heartbeatInterval?: number;
  /** Seconds of silence after which it counts as offline; three intervals when left out. */
  heartbeatTimeout?: number;
  /** Requests that it does at once, 64 when left out; further ones are told to try another agent. */
  maxConcurrency?: number;
  /** Resources that it holds alone. */
  claims?: readonly string[];
  /** Take the id over from a live instance, which is stopped then. */
  takeover?: boolean;
  /** Seconds that the work in flight gets when the agent stops; 30 when left out. */
  drainTimeout?: number;
  /** Where log lines go; standard error when left out. */
  log?: Log;
}

/** Option to the name that it has in a registration; the others are the SDK's own. */
const WIRE_NAMES: Readonly<Record<string, string>> = {
  agentType: "agent_type",
  capabilities: "capabilities",
  tags: "tags",
  metadata: "metadata",
  version: "version",
  heartbeatInterval: "heartbeat_interval",
  heartbeatTimeout: "heartbeat_timeout",
  claims: "claims",
  takeover: "takeover",
};
const OWN_OPTIONS = [
  "agentId",
  "nats",
  "credentials",
  "prefix",
  "inboxPrefix",
  "maxConcurrency",
  "drainTimeout",
  "log",
];

/** A request with a known answer: the registry sends it now and then, to see whether the agent does its work. */
export interface Canary {
  /** The request. */
  payload?: Fields;
  /** Fields that the answer must have, with equal values; without any, an answer will do that is no error. */
  expect?: Fields;
  /** Which capability this shows; may be left out when the agent has only one. */
  capability?: string;
  /** Seconds that the answer may take, 0.05 to 60; 2 when left out. */
  timeout?: number;
  /** Seconds between two of them, 1 to 86,400; 60 when left out. */
  period?: number;
}

/**
 * An agent that others find by what it can do.
 *
 *     const agent = new Agent({ agentType: "trading_agent", capabilities: ["trading"] });
 *     agent.handle("quote", ({ symbol }) => ({ symbol, price: 42.0 }));
 *     await agent.run();
 *
 * It registers, answers on `agent.<id>.<topic>`, measures its own load, and beats from a thread of its own, so that a
 * handler which blocks the event loop makes it busy, not dead. When another instance takes its id over, it stops.
 */
export class Agent {
  readonly agentId: string;
  /** This life of the agent. */
  readonly instanceId = randomBytes(8).toString("hex");
  /** The registry, and through `call` other agents; on the agent's own connection. */
  readonly client: RegistryClient;
  readonly #options: AgentOptions;
  readonly #log: Log;
  readonly #handlers = new Map<string, Handler>();
  readonly #maxConcurrency: number;
  readonly #address: Address;
  readonly #connection: Connection;
  readonly #metrics: Record<string, number> = {};
  readonly #reported: { loadFactor?: number; healthScore?: number } = {};
  #registration: Fields;
  #health: (() => number | Promise<number>) | undefined;
  #vitals: Vitals | undefined;
  #life: Life | undefined;

  /** Throws an `InvalidRequestError` that names the fields, as they are called on the wire. */
  constructor(options: AgentOptions) {
    this.#options = options;
    this.#log = options.log ?? toStderr;
    const unknown = Object.keys(options).find((name) => !(name in WIRE_NAMES) && !OWN_OPTIONS.includes(name));
    if (unknown !== undefined) throw refusal(unknown, "is not an option of an agent");
    this.agentId = options.agentId ?? (process.env["AGENT_REGISTRY_AGENT_ID"] || newId(options.agentType));
    this.#maxConcurrency = options.maxConcurrency ?? DEFAULT_MAX_CONCURRENCY;
    checkDrainTimeout(options.drainTimeout);
    const prefix = new Subjects(options.prefix ?? DEFAULT_PREFIX).prefix;
    const said = Object.entries(WIRE_NAMES).map(([option, name]) => [name, options[option as keyof AgentOptions]]);
    this.#registration = checkRegistration({
      ...Object.fromEntries(said),
      agent_id: this.agentId,
      instance_id: this.instanceId,
      health_subject: agentTopic(this.agentId, HEALTH_CHECK),
      max_concurrency: this.#maxConcurrency,
    });
    this.#address = {
      servers: serverUrls(options.nats),
      timeout: DIAL_TIMEOUT,
      ...(options.credentials === undefined ? {} : { credentials: options.credentials }),
      ...(options.inboxPrefix === undefined ? {} : { inboxPrefix: options.inboxPrefix }),
    };
    this.#connection = new Connection({ ...this.#address, name: `work:${this.agentId}` }, this.#log);
    this.client = new RegistryClient(this.#connection, prefix, this.#log);
  }

  /**
   * Has `handler` answer requests to `topic`; throws if the topic is no subject, is the SDK's own, or has a handler, or
   * the canary is none.
   */
  handle(topic: string, handler: Handler, { canary }: { canary?: Canary } = {}): this {
    if (!isTopic(topic) || OURS.includes(topic)) {
      throw refusal("topic", `'${topic}' must be a subject without wildcards, and none of ${OURS.join(", ")}`);
    }
    if (this.#handlers.has(topic)) throw refusal("topic", `'${topic}' has a handler already`);
    if (this.#life !== undefined) throw new Error(`${this.agentId} has started; add handlers before`);
    if (canary !== undefined) this.#registration = declaring(this.#registration, topic, canary);
    this.#handlers.set(topic, handler);
    return this;
  }

  /** Has `health` say how healthy the agent is, 0 to 1, before each heartbeat. One that throws says 0. */
  health(health: () => number | Promise<number>): this {
    this.#health = health;
    return this;
  }

  /**
   * Reports what the agent knows better than what is measured; it leaves with the next heartbeat, soon.
   *
   * What was reported holds until it is reported anew: `loadFactor` 0 (idle) to 1 (full), `healthScore` 0 (unfit) to 1
   * (well), `metrics` name to number. Throws an `InvalidRequestError` if one is out of range, or there are too many.
   */
  report(what: { loadFactor?: number; healthScore?: number; metrics?: Record<string, number> }): void {
    const { loadFactor, healthScore, metrics = {} } = what;
    // The registry would refuse the whole heartbeat, again and again.
    const names = [...Object.keys(this.#metrics), ...OWN_METRICS];
    const everything = { ...Object.fromEntries(names.map((name) => [name, 0])), ...metrics };
    checkHeartbeat({
      agent_id: this.agentId,
      health_score: healthScore,
      load_factor: loadFactor,
      metrics: everything,
    });
    Object.assign(this.#metrics, metrics);
    if (loadFactor !== undefined) this.#reported.loadFactor = loadFactor;
    if (healthScore !== undefined) this.#reported.healthScore = healthScore;
    this.#vitals?.report(loadFactor, healthScore);
    this.#life?.heart?.send({ what: "metrics", metrics: this.#metrics });
    this.#life?.heart?.send({ what: "moved" });
  }

  /** Says that the work of an assignment is done, so that its slots are free; returns false if it has ended before. */
  release(assignmentId: string): Promise<boolean> {
    return this.client.release(assignmentId, this.agentId);
  }

  /**
   * Serves until SIGTERM, Ctrl-C or the registry's order to drain; then finishes the work in flight and leaves.
   *
   * A second signal ends at once, and a handler that never ends does not keep the process. If the registry refuses the
   * registration, for example because another live instance holds the id, or another instance has taken the id over, a
   * line in the log says so, and the process exits with `REFUSED`. `start` and `wait` throw the error itself.
   */
  async run(): Promise<void> {
    const stop = (signal: string): void => {
      forget();
      this.#log("info", `${this.agentId} got ${signal} and finishes its work; a second one ends it at once`);
      void this.stop();
    };
    const forget = (): void => {
      for (const signal of ["SIGTERM", "SIGINT"]) process.removeListener(signal, stop);
    };
    for (const signal of ["SIGTERM", "SIGINT"]) process.on(signal, stop);
    try {
      await this.start();
      await this.wait();
      if (this.#life?.hasGivenUp) process.exit();
    } catch (error) {
      if (!(error instanceof RegistryError)) throw error;
      // Else its end has been logged.
      if (!this.#life?.incarnation) this.#log("error", `${this.agentId} is refused: ${error.code}: ${error.message}`);
      process.exit(REFUSED);
    } finally {
      forget();
    }
  }

  /**
   * Connects, registers, serves; returns when all of that is done, however long the registry takes to appear.
   *
   * If the agent is stopped meanwhile, or told to drain, this returns as well. Throws `AlreadyRegisteredError` if
   * another live instance holds the id, another `RegistryError` if the registry refuses for another reason.
   */
  async start(): Promise<void> {
    this.#life ??= this.#makeLife();
    await this.#life.begin();
    if (!this.#life.isServing) return;
    const topics = [...this.#handlers.keys()].join(", ") || "no topics";
    this.#log("info", `${this.agentId} serves ${topics}, registered as incarnation ${this.#life.incarnation}`);
  }

  /** Takes no new work, finishes what is in flight, deregisters, disconnects. */
  async stop(): Promise<void> {
    await this.#life?.end();
  }

  /** Waits until the agent has ended; throws `StaleIncarnationError` if another instance has taken its id over. */
  async wait(): Promise<void> {
    if (this.#life === undefined) throw new Error(`${this.agentId} has not been started`);
    await this.#life.over();
  }

  #makeLife(): Life {
    const vitals = new Vitals(this.#maxConcurrency, [...this.#handlers.keys()]);
    vitals.report(this.#reported.loadFactor, this.#reported.healthScore);
    this.#vitals = vitals;
    const service = new Service(
      this.agentId,
      this.#handlers,
      this.#connection,
      vitals,
      this.#maxConcurrency,
      () => {
        if (vitals.moved()) life.heart?.send({ what: "moved" });
      },
      (topic, text) => life.heart?.send({ what: "lastError", topic, text }),
      this.#log,
    );
    const drainTimeout = this.#options.drainTimeout ?? DEFAULT_DRAIN_TIMEOUT;
    const makeHeart = (tell: (signal: Signal) => void): HeartThread => this.#makeHeart(vitals, tell);
    const life = new Life(this.agentId, this.#connection, service, makeHeart, drainTimeout, this.#log);
    this.#connection.listen((connected) => life.heart?.send({ what: "work", connected }));
    return life;
  }

  #makeHeart(vitals: Vitals, tell: (signal: Signal) => void): HeartThread {
    const heart = new HeartThread(
      {
        registration: this.#registration,
        version: this.#options.version ?? "1.0.0",
        address: { ...this.#address, name: `agent:${this.agentId}` },
        prefix: this.#options.prefix ?? DEFAULT_PREFIX,
        topics: [...this.#handlers.keys()],
        maxConcurrency: this.#maxConcurrency,
        memory: vitals.memory,
        hasHealth: this.#health !== undefined,
      },
      tell,
      () => this.#score(),
      this.#log,
    );
    heart.send({ what: "metrics", metrics: this.#metrics });
    heart.send({ what: "work", connected: this.#connection.isConnected });
    return heart;
  }

  /** Returns what the application says of its health. A check that fails is an answer: unfit. */
  async #score(): Promise<number> {
    try {
      const score = await this.#health?.();
      if (typeof score === "number" && score >= 0 && score <= 1) return score;
      this.#log("error", `the health function returned ${score}; it must return 0 to 1`);
    } catch (error) {
      this.#log("error", `the health function failed; the agent counts as unfit: ${error}`);
    }
    return 0;
  }
}

/** Returns an id for an agent that has none; what is wrong with a type is said where it is checked. */
function newId(agentType: unknown): string {
  return `${String(agentType)
    .replace(/[^A-Za-z0-9_-]/g, "-")
    .slice(0, 96)}-${randomBytes(6).toString("hex")}`;
}

function checkDrainTimeout(seconds: unknown): void {
  if (seconds !== undefined && !(typeof seconds === "number" && seconds >= 0)) {
    throw refusal("drain_timeout", `must be a number of seconds, 0 or more; got ${seconds}`);
  }
}

/** Returns a registration that also declares a canary, which goes to a topic. */
function declaring(registration: Fields, topic: string, canary: Canary): Fields {
  const { capability, ...fields } = canary;
  const known = registration["capabilities"] as string[];
  const declared = (registration["canaries"] ?? {}) as Fields;
  if (capability === undefined && known.length > 1) {
    throw refusal("canary.capability", `must be given, for the agent has several: ${known.join(", ")}`);
  }
  const shown = (capability ?? known[0] ?? "").trim().toLowerCase();
  if (!known.includes(shown)) {
    throw refusal("canary.capability", `must be one of the agent's, ${known.join(", ")}; got '${capability}'`);
  }
  if (shown in declared) throw refusal("canary.capability", `'${shown}' has a canary already`);
  return checkRegistration({ ...registration, canaries: { ...declared, [shown]: { topic, ...fields } } });
}
