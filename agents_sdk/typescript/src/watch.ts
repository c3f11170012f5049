// Watching agents: a snapshot first, then every change, through restarts of NATS and the registry.

import type { Connection, Msg } from "./connection.js";
import { ClosedError, NotFoundError, RegistryError } from "./errors.js";
import { Inflow, readEvent } from "./events.js";
import type { Log } from "./log.js";
import type { AgentInfo, Listing, ServiceQuery, StatusEvent } from "./messages.js";
import type { Requester } from "./requester.js";
import { Backoff } from "./retry.js";
import { now, sleep } from "./time.js";

/** Seconds between two snapshots: events are core NATS messages, and one can be lost without either end noticing. */
const LOOK_AGAIN = 60;

/** Seconds after which every replica has noticed that the bucket was made anew. */
const NOTICED = 5;

/** Agents in one snapshot, at most. */
const MAX_LIMIT = 1000;

/** What became of the agents that match. */
export type Change =
  /** All agents that match, now; what came before counts no more. */
  | { what: "snapshot"; agents: AgentInfo[]; revision: number }
  /** An agent matches that did not before. */
  | { what: "joined"; agent: AgentInfo }
  /** An agent that matches is not what it was. */
  | { what: "changed"; agent: AgentInfo }
  /** An agent does not match any more, or is gone. */
  | { what: "left"; agentId: string };

/** Watches the agents that match a query, health and load aside: those change with each heartbeat. */
export class Watch {
  readonly #query: ServiceQuery;
  readonly #events = new Inflow<StatusEvent>();
  readonly #agents = new Set<string>();
  #revision = 0;
  #log: string | undefined;
  #lookAt = -Infinity;

  constructor(
    private readonly connection: Connection,
    private readonly requester: Requester,
    private readonly discover: (query: ServiceQuery) => Promise<Listing>,
    query: ServiceQuery,
    private readonly log: Log,
  ) {
    this.#query = {
      ...query,
      min_health_score: 0,
      max_load_factor: 1,
      sort_by: "random",
      limit: MAX_LIMIT,
      explain: false,
    };
  }

  /** Yields a snapshot, then changes; throws if there is no first snapshot, and `ClosedError` at the end. */
  async *changes(): AsyncGenerator<Change, void, void> {
    const onLink = (connected: boolean): void => {
      if (connected) this.#lookAt = -Infinity;
      this.#events.wake();
    };
    // Events first: what happens between subscribing and the snapshot is in both, never in none.
    const subscription = this.connection.subscribe(this.requester.subjects.events("status"), (msg) => this.#hear(msg));
    this.connection.listen(onLink);
    const backoff = new Backoff(0.1, 5.0);
    try {
      yield await this.#snapshot();
      while (!this.connection.isClosed) {
        try {
          const change = now() >= this.#lookAt ? await this.#snapshot() : await this.#next();
          backoff.reset();
          if (change !== undefined) yield change;
        } catch (error) {
          if (!(error instanceof RegistryError) || error instanceof ClosedError) throw error;
          this.#lookAt = -Infinity;
          await sleep(backoff.next());
        }
      }
      throw new ClosedError("the connection to NATS is closed");
    } finally {
      this.connection.unlisten(onLink);
      this.connection.unsubscribe(subscription);
    }
  }

  async #snapshot(): Promise<Change> {
    this.#lookAt = now() + LOOK_AGAIN;
    const { agents, revision } = await this.discover(this.#query);
    this.#revision = revision;
    this.#agents.clear();
    for (const agent of agents) this.#agents.add(agent.agent_id);
    return { what: "snapshot", agents, revision };
  }

  async #next(): Promise<Change | undefined> {
    const event = this.#events.shift();
    if (event === undefined) {
      await this.#events.wait(this.#lookAt - now());
      return undefined;
    }
    const log = event.event_id.slice(0, event.event_id.lastIndexOf(":"));
    const isAnother = this.#log !== undefined && this.#log !== log;
    this.#log = log;
    if (isAnother) {
      // Its revisions say nothing about those that are known, and a replica may not know of it yet.
      const snapshot = await this.#snapshot();
      this.#lookAt = now() + NOTICED;
      return snapshot;
    }
    return event.revision <= this.#revision ? undefined : await this.#judge(event);
  }

  async #judge(event: StatusEvent): Promise<Change | undefined> {
    const agentId = event.agent_id;
    const agent = event.removed ? undefined : await this.#find(event);
    if (agent === undefined) return this.#agents.delete(agentId) ? { what: "left", agentId } : undefined;
    const isKnown = this.#agents.has(agentId);
    this.#agents.add(agentId);
    return { what: isKnown ? "changed" : "joined", agent };
  }

  /** Returns the agent of an event if it matches, from a state as new as the event. */
  async #find(event: StatusEvent): Promise<AgentInfo | undefined> {
    const fields = { agent_id: event.agent_id, min_revision: event.revision };
    let agent: AgentInfo;
    try {
      agent = (await this.requester.ask("get", fields)) as unknown as AgentInfo;
    } catch (error) {
      if (error instanceof NotFoundError) return undefined;
      throw error;
    }
    const { version, skills } = this.#query;
    if (version === undefined && skills === undefined) return this.#matches(agent) ? agent : undefined;
    // What a specifier and an agent card say is the registry's to judge.
    const { agents } = await this.discover({ ...this.#query, min_revision: event.revision });
    return agents.find((each) => each.agent_id === agent.agent_id);
  }

  #matches(agent: AgentInfo): boolean {
    const {
      capabilities = [],
      tags = [],
      exclude = [],
      statuses = ["active", "degraded"],
      metadata = {},
    } = this.#query;
    const { agent_type: type } = this.#query;
    const has = (all: readonly string[], wanted: Iterable<string>): boolean =>
      [...wanted].every((each) => all.includes(each));
    return (
      [...statuses].includes(agent.status) &&
      (type === undefined || agent.agent_type === type) &&
      has(
        agent.capabilities,
        [...capabilities].map((each) => each.toLowerCase()),
      ) &&
      has(agent.tags, tags) &&
      Object.entries(metadata).every(([key, value]) => JSON.stringify(agent.metadata[key]) === JSON.stringify(value)) &&
      ![...exclude].includes(agent.agent_id)
    );
  }

  #hear(msg: Msg): void {
    const read = readEvent(this.requester.subjects, msg.subject, msg.data, this.log);
    // Who is too far behind starts over.
    if (read?.kind === "status" && !this.#events.push(read.event)) {
      this.#events.clear();
      this.#lookAt = -Infinity;
    }
  }
}
