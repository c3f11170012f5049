// The registry's client.

import { randomBytes } from "node:crypto";
import { type Address, serverUrls } from "./address.js";
import { Assignment } from "./assignment.js";
import { Caller } from "./caller.js";
import { Connection } from "./connection.js";
import { NotFoundError, PayloadTooLargeError, UnavailableError } from "./errors.js";
import { type Event, type EventKind, liveEvents } from "./events.js";
import { type Log, toStderr } from "./log.js";
import type {
  AgentInfo,
  AssignmentListing,
  ConflictReport,
  Grant,
  Listing,
  Receipt,
  Registration,
  ReportReceipt,
  ScalingReport,
  ServiceQuery,
  Vocabulary,
} from "./messages.js";
import { DEFAULT_PREFIX, type Fields, Subjects } from "./protocol.js";
import { isFinal, REGISTER_TIMEOUT, Requester } from "./requester.js";
import { now } from "./time.js";
import { type Change, Watch } from "./watch.js";

/** Seconds for which a client asks for a state with its own changes; replicas lag by milliseconds. */
const OWN_WRITES = 10;

/** Agents to choose among for a call. */
const CANDIDATES = 10;

const DEFAULT_LIMIT = 10;
const MAX_LIMIT = 1000;
const DEFAULT_TTL = 60;
const MAX_WAIT = 60;

export interface ClientOptions {
  /** URLs of NATS servers, comma-separated; `NATS_URL`, else this machine's when left out. */
  nats?: string;
  /** First token or tokens of the registry's subjects. */
  prefix?: string;
  /** Seconds that a request takes at most, repetitions included; 2 when left out. */
  timeout?: number;
  /** NATS credentials file. */
  credentials?: string;
  /** Name of the connection, for people who look at NATS. */
  name?: string;
  /** First tokens of the subjects on which replies arrive. */
  inboxPrefix?: string;
  /** Where log lines go; standard error when left out. */
  log?: Log;
}

export interface CallOptions {
  /** Seconds that this takes at most, all attempts included; 5 when left out. */
  timeout?: number;
  /** Further conditions; its `limit` says among how many agents to choose. */
  query?: ServiceQuery;
  /** Ask no second agent when the first one may have begun. */
  atMostOnce?: boolean;
}

export interface AssignOptions {
  /** Names the task, 1 to 128 characters; made up when left out. */
  taskId?: string;
  /** How many slots of the agent to reserve; 1 when left out. */
  slots?: number;
  /** Seconds after which the assignment ends by itself; 60 when left out. */
  ttl?: number;
  /** Seconds to wait for an agent to be free; 0 when left out. */
  wait?: number;
}

/**
 * Everything the registry can be asked, over NATS.
 *
 * Every method throws the error that the registry answers with, a `RegistryError`, and `UnavailableError` if there is
 * no answer in time. Queries and answers have the names of the wire contract.
 */
export class RegistryClient {
  readonly #connection: Connection;
  readonly #isOurs: boolean;
  readonly #timeout: number;
  readonly #log: Log;
  readonly #requester: Requester;
  readonly #caller: Caller;
  #written = 0;
  #writtenAt = -Infinity;
  /** Agents in one answer, at most; less once that was too much. */
  #pageSize = MAX_LIMIT;

  /** @param target A connection that somebody else opens and closes, or how to make one. */
  constructor(target: ClientOptions | Connection = {}, prefix?: string, log?: Log) {
    const options = target instanceof Connection ? {} : target;
    this.#isOurs = !(target instanceof Connection);
    this.#timeout = options.timeout ?? 2;
    this.#log = log ?? options.log ?? toStderr;
    this.#connection = target instanceof Connection ? target : new Connection(addressOf(target), target.log);
    const subjects = new Subjects(prefix ?? options.prefix ?? DEFAULT_PREFIX);
    this.#requester = new Requester(this.#connection, subjects, this.#timeout);
    this.#caller = new Caller(
      this.#connection,
      (query) => this.discover(query),
      (agentId, problem) => this.#requester.hint(agentId, problem),
    );
  }

  /** Connects to NATS; a server that is not there gets the client's `timeout` to come. */
  async connect(): Promise<this> {
    if (this.#isOurs) await this.#connection.open(this.#timeout);
    return this;
  }

  /** Closes the connection. */
  async close(): Promise<void> {
    if (this.#isOurs) await this.#connection.close();
  }

  /** Registers an agent. It has to be heard of from now on; `Agent` does that by itself. */
  async register(registration: Registration): Promise<Receipt> {
    const answer = await this.#requester.ask("register", { ...registration }, { within: REGISTER_TIMEOUT });
    return this.#wrote(answer as unknown as Receipt);
  }

  /** Removes an agent; returns false if there was none. */
  async deregister(agentId: string, reason?: string): Promise<boolean> {
    const answer = await this.#requester.ask("deregister", command(agentId, reason));
    this.#wrote({ revision: Number(answer["revision"] ?? 0) });
    return Boolean(answer["deregistered"]);
  }

  /**
   * Returns the agents that match, best first, and how many there are in all.
   *
   * What this client changed itself is seen, whichever replica answers. Agents that do not fit into one answer are
   * asked for in several requests.
   */
  async discover(query: ServiceQuery = {}): Promise<Listing> {
    const fields = asFields(query);
    fields["min_revision"] = Math.max(this.#ownWrites(), query.min_revision ?? 0);
    const wanted = query.limit ?? DEFAULT_LIMIT;
    const found = await this.#page(fields, wanted);
    let last = found;
    while (last.agents.length > 0 && last.total > last.agents.length && found.agents.length < wanted) {
      const exclude = new Set([...(query.exclude ?? []), ...found.agents.map((agent) => agent.agent_id)]);
      if (exclude.size > MAX_LIMIT) break;
      const rest = { exclude, min_revision: found.revision, explain: false };
      last = await this.#page({ ...fields, ...rest }, wanted - found.agents.length);
      found.agents.push(...last.agents);
    }
    return found;
  }

  /** Returns what is known of an agent, undefined if there is no such agent. */
  async get(agentId: string): Promise<AgentInfo | undefined> {
    try {
      const fields = { agent_id: agentId, min_revision: this.#ownWrites() };
      return (await this.#requester.ask("get", fields)) as unknown as AgentInfo;
    } catch (error) {
      if (error instanceof NotFoundError) return undefined;
      throw error;
    }
  }

  /** Reports an agent's health: `health_score`, `load_factor`, `response_time`; further numbers are kept as metrics. */
  async reportHealth(agentId: string, health: Record<string, number>): Promise<void> {
    await this.#requester.ask("health", { ...health, agent_id: agentId });
  }

  /** Reports an agent's performance metrics. */
  async reportPerformance(agentId: string, metrics: Record<string, number>): Promise<void> {
    // Averages are weighted by what was served since the last report: twice is not once.
    await this.#requester.ask("performance", { agent_id: agentId, metrics }, { idempotent: false });
  }

  /** Reports that an agent could not be reached, or a problem with it: the registry asks it at once. */
  async reportProblem(agentId: string, problem: string): Promise<ReportReceipt> {
    return (await this.#requester.ask("report", { agent_id: agentId, problem })) as unknown as ReportReceipt;
  }

  /** Takes an agent out of service until it is resumed. */
  suspend(agentId: string, reason?: string): Promise<AgentInfo> {
    return this.#command("suspend", agentId, reason);
  }

  /** Puts a suspended agent back into service. */
  resume(agentId: string, reason?: string): Promise<AgentInfo> {
    return this.#command("resume", agentId, reason);
  }

  /** Asks an agent to finish its work and leave; it gets no more. */
  drain(agentId: string, reason?: string): Promise<AgentInfo> {
    return this.#command("drain", agentId, reason);
  }

  /** Returns the statistics of the replica that answers. */
  stats(): Promise<Fields> {
    return this.#requester.ask("stats", {});
  }

  /** Returns the wire contract for programs: an AsyncAPI document, or with a name the JSON Schema of one message. */
  schema(of: { format?: "asyncapi" | "json-schema"; name?: string } = {}): Promise<Fields> {
    return this.#requester.ask("schema", { ...of });
  }

  /** Returns the known capabilities, and how many agents have each. */
  async capabilities(): Promise<Vocabulary> {
    return (await this.#requester.ask("capabilities", {})) as unknown as Vocabulary;
  }

  /** Returns what the scaler sees and wants, of one capability or of all. */
  async scaling(capability?: string): Promise<ScalingReport> {
    const fields = capability === undefined ? {} : { capability };
    return (await this.#requester.ask("scaling.get", fields)) as unknown as ScalingReport;
  }

  /** Changes how a capability is scaled; `{reset: true}` drops its own policy. */
  async setScaling(capability: string, changes: Fields): Promise<ScalingReport> {
    return (await this.#requester.ask("scaling.set", { ...changes, capability })) as unknown as ScalingReport;
  }

  /** Returns the rules on what agents must not be together, and who breaks them; one rule or all. */
  async conflicts(name?: string): Promise<ConflictReport> {
    const fields = name === undefined ? {} : { name };
    return (await this.#requester.ask("conflict.get", fields)) as unknown as ConflictReport;
  }

  /** Sets a rule, in the place of the one of that name; `{remove: true}` removes it. */
  async setConflict(name: string, rule: Fields): Promise<ConflictReport> {
    return (await this.#requester.ask("conflict.set", { ...rule, name })) as unknown as ConflictReport;
  }

  /**
   * Finds an agent and reserves slots of it, in one step. Safe to ask again with the same `taskId`.
   *
   * Throws `InvalidRequestError` if no agent ever has so many slots, `UnavailableError` if nobody is free, or the
   * registry fell silent; it is told then that the task needs no agent any more.
   */
  async assign(query: ServiceQuery = {}, options: AssignOptions = {}): Promise<Assignment> {
    const { taskId = randomBytes(8).toString("hex"), slots = 1, ttl = DEFAULT_TTL, wait = 0 } = options;
    const patience = wait >= 0 && wait <= MAX_WAIT ? wait : 0; // the registry refuses what is out of bounds
    try {
      const fields = { ...asFields(query), task_id: taskId, slots, ttl, wait };
      const answer = await this.#requester.ask("assign", fields, { wait: patience });
      return new Assignment(answer as unknown as Grant, ttl, this.#connection, this.#requester);
    } catch (error) {
      if (error instanceof UnavailableError && !isFinal(error)) this.#requester.withdraw(taskId);
      throw error;
    }
  }

  /** Ends an assignment, whose work is done; returns false if it has ended before. */
  async release(assignmentId: string, agentId?: string): Promise<boolean> {
    const fields = { assignment_id: assignmentId, ...(agentId === undefined ? {} : { agent_id: agentId }) };
    return Boolean((await this.#requester.ask("release", fields))["released"]);
  }

  /** Returns the assignments that live, of one agent or task if one is named. */
  async assignments(of: { agent_id?: string; task_id?: string; limit?: number } = {}): Promise<AssignmentListing> {
    return (await this.#requester.ask("assignments", { ...of })) as unknown as AssignmentListing;
  }

  /**
   * Yields a snapshot of the agents that match, then what becomes of them; a new snapshot after an outage of NATS, and
   * each minute.
   */
  watch(query: ServiceQuery = {}): AsyncGenerator<Change, void, void> {
    return new Watch(this.#connection, this.#requester, (wanted) => this.discover(wanted), query, this.#log).changes();
  }

  /** Yields the registry's events from now on, of all kinds when none is named. What comes in an outage is not seen. */
  events(...kinds: EventKind[]): AsyncGenerator<Event, void, void> {
    return liveEvents(this.#connection, this.#requester.subjects, kinds, this.#log);
  }

  /**
   * Has an agent with a capability do something, and returns its answer.
   *
   * When nobody listens, or the agent is overloaded or leaving, another one is asked. When it does not answer in time,
   * too, unless `atMostOnce`: then it may be done twice. Throws `AgentCallError` if the agent answers with an error,
   * `UnavailableError` if no agent did it in time.
   */
  call(capability: string, topic: string, payload: Fields = {}, options: CallOptions = {}): Promise<unknown> {
    const { query = { limit: CANDIDATES }, timeout = 5, atMostOnce = false } = options;
    const wanted = { ...query, capabilities: new Set([...(query.capabilities ?? []), capability]) };
    return this.#caller.call(wanted, topic, payload, timeout, atMostOnce);
  }

  async #page(fields: Fields, wanted: number): Promise<Listing> {
    for (;;) {
      // What is no limit, or too high a one, is the registry's to refuse.
      const limit = wanted > this.#pageSize && wanted <= MAX_LIMIT ? this.#pageSize : wanted;
      try {
        return (await this.#requester.ask("discover", { ...fields, limit })) as unknown as Listing;
      } catch (error) {
        const size = Math.floor(Math.min(limit, this.#pageSize) / 2);
        if (!(error instanceof PayloadTooLargeError) || !(size > 0)) throw error;
        this.#pageSize = size;
      }
    }
  }

  async #command(operation: string, agentId: string, reason: string | undefined): Promise<AgentInfo> {
    return this.#wrote((await this.#requester.ask(operation, command(agentId, reason))) as unknown as AgentInfo);
  }

  #wrote<T extends { revision: number }>(answer: T): T {
    this.#written = Math.max(this.#written, answer.revision);
    this.#writtenAt = now();
    return answer;
  }

  /** Returns the revision that an answer must have reached to show this client's own changes; 0 for any. */
  #ownWrites(): number {
    return now() - this.#writtenAt < OWN_WRITES ? this.#written : 0;
  }
}

function addressOf({ nats, name, credentials, inboxPrefix, timeout = 2 }: ClientOptions): Address {
  return {
    servers: serverUrls(nats),
    timeout,
    ...(name === undefined ? {} : { name }),
    ...(credentials === undefined ? {} : { credentials }),
    ...(inboxPrefix === undefined ? {} : { inboxPrefix }),
  };
}

function command(agentId: string, reason: string | undefined): Fields {
  return { agent_id: agentId, ...(reason === undefined ? {} : { reason }) };
}

/** Returns a query as it is sent: its lists as sorted sets. */
function asFields(query: ServiceQuery): Fields {
  const isList = (value: unknown): value is Iterable<string> =>
    typeof value === "object" && value !== null && Symbol.iterator in value;
  return Object.fromEntries(
    Object.entries(query).map(([name, value]) => [name, isList(value) ? new Set(value) : value]),
  );
}
