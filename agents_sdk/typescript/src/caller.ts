// Calling an agent by what it can do.

import { type Connection, NoReplyError, NoRespondersError } from "./connection.js";
import { AgentCallError, ClosedError, UnavailableError } from "./errors.js";
import type { AgentInfo, Listing, ServiceQuery } from "./messages.js";
import { encode, type Fields, refusalOf, topicOf } from "./protocol.js";
import { answerIn, didNotBegin } from "./replies.js";
import { Backoff } from "./retry.js";
import { now, sleep } from "./time.js";

/** Seconds for which a listing serves further calls. */
const LISTING_AGE = 1.0;

/** Seconds that a listing serves calls that got no answer from those in it. */
const REFRESH = 0.25;

/** Queries whose listings are kept; one more and all are forgotten. */
const MAX_LISTINGS = 256;

/** Tasks that an agent is taken to do at once when it does not say. */
const ASSUMED_CONCURRENCY = 16;

/** Loads that differ by no more are nearly equal, as in the registry's ranking: they are seconds old. */
const NEARLY_EQUAL = 0.02;

/** Seconds between two reports of the same agent; the registry asks it no more often because of them. */
const REPORT_PAUSE = 1.0;

/** Agents whose last report is remembered; one more and all are forgotten. */
const MAX_REPORTED = 1024;

/** What is asked for, and what came of it so far. */
interface Call {
  topic: string;
  body: string;
  deadline: number;
  atMostOnce: boolean;
  /** Agent to why it did not do it. */
  failures: Map<string, string>;
  /** Agents that get no second chance before the others. */
  tried: Set<string>;
  /** Why nobody can be asked, if nobody can. */
  trouble: string;
}

type Outcome = { answer: unknown } | { why: string; mayHaveBegun: boolean };

/**
 * Sends requests to agents, choosing the better of two random candidates.
 *
 * Two random choices spread load nearly as well as perfect knowledge, and callers that have the same listing do not all
 * run to the same agent (Mitzenmacher, TPDS 2001).
 */
export class Caller {
  readonly #listings = new Map<string, { askedAt: number; listing: Promise<Listing> }>();
  readonly #lastGood = new Map<string, Listing>();
  readonly #inFlight = new Map<string, number>();
  readonly #reported = new Map<string, number>();

  constructor(
    private readonly connection: Connection,
    private readonly discover: (query: ServiceQuery) => Promise<Listing>,
    private readonly report: (agentId: string, problem: string) => void,
    private readonly random: () => number = Math.random,
  ) {}

  /** Returns what an agent answers; see `RegistryClient.call`. */
  async call(
    query: ServiceQuery,
    topic: string,
    payload: Fields,
    within: number,
    atMostOnce: boolean,
  ): Promise<unknown> {
    const call: Call = {
      topic,
      body: encode(payload),
      deadline: now() + within,
      atMostOnce,
      failures: new Map(),
      tried: new Set(),
      trouble: "",
    };
    const backoff = new Backoff();
    let freshSince = 0;
    for (;;) {
      try {
        const agents = await this.#candidates(query, freshSince, call.deadline);
        const outcome = await this.#try(agents, call);
        call.trouble = "";
        if (outcome !== undefined) {
          if ("answer" in outcome) return outcome.answer;
          throw new FinalError(`${outcome.why}; it may have begun`);
        }
      } catch (error) {
        if (error instanceof FinalError) throw new UnavailableError(error.message);
        if (!(error instanceof UnavailableError) || error instanceof ClosedError) throw error;
        call.trouble ||= error.message;
      }
      const pause = backoff.next();
      if (now() + pause >= call.deadline) throw new UnavailableError(gaveUp(query, within, call));
      await sleep(pause);
      freshSince = now() - REFRESH;
    }
  }

  /** Returns agents, from a listing asked for after `freshSince` if the registry is there. */
  async #candidates(query: ServiceQuery, freshSince: number, deadline: number): Promise<AgentInfo[]> {
    const key = encode({ ...query });
    const asked = now();
    let cached = this.#listings.get(key);
    if (cached === undefined || cached.askedAt < Math.max(freshSince, asked - LISTING_AGE)) {
      if (this.#listings.size >= MAX_LISTINGS) {
        this.#listings.clear();
        this.#lastGood.clear();
      }
      cached = { askedAt: asked, listing: this.discover(query) };
      cached.listing.catch(() => undefined); // nobody may be waiting for it any more
      this.#listings.set(key, cached);
    }
    try {
      const over = new AbortController();
      const late = sleep(Math.max(0, deadline - asked), over.signal).then(() => {
        throw new UnavailableError("no answer in time");
      });
      late.catch(() => undefined);
      // Others wait for the same listing: our time-out does not end it.
      const listing = await Promise.race([cached.listing, late]).finally(() => over.abort());
      this.#lastGood.set(key, listing);
      return listing.agents;
    } catch (error) {
      if (!(error instanceof UnavailableError) || error instanceof ClosedError) throw error;
      const known = this.#lastGood.get(key);
      if (known === undefined) throw new UnavailableError(`agents cannot be found: ${error.message}`);
      // Agents work on without a registry; whom it listed last is the best guess.
      return known.agents;
    }
  }

  /** Asks agents that have not been asked; returns the answer, or the failure that is final, or nothing. */
  async #try(agents: readonly AgentInfo[], call: Call): Promise<Outcome | undefined> {
    const untried = agents.filter((agent) => !call.tried.has(agent.agent_id));
    for (let left = call.deadline - now(); untried.length > 0 && left > 0; left = call.deadline - now()) {
      const agent = this.#choose(untried);
      untried.splice(untried.indexOf(agent), 1);
      // The others get their chance within half of the time that is left.
      const outcome = await this.#attempt(agent, call, untried.length > 0 ? left / 2 : left);
      if ("answer" in outcome) return outcome;
      if (outcome.mayHaveBegun && call.atMostOnce) return { ...outcome, why: `${agent.agent_id}: ${outcome.why}` };
      call.tried.add(agent.agent_id);
      call.failures.set(agent.agent_id, outcome.why);
    }
    if (agents.every((agent) => call.tried.has(agent.agent_id))) call.tried.clear();
    return undefined;
  }

  /** Returns the one of two random agents that has less to do; either of them when they are nearly equal. */
  #choose(agents: readonly AgentInfo[]): AgentInfo {
    const first = Math.floor(this.random() * agents.length);
    const second = (first + 1 + Math.floor(this.random() * (agents.length - 1))) % agents.length;
    const [one, other] = [agents[first] as AgentInfo, agents[second] as AgentInfo];
    return this.#load(one) <= this.#load(other) + NEARLY_EQUAL ? one : other;
  }

  /** Returns an agent's load as reported, and what we have sent it since. */
  #load(agent: AgentInfo): number {
    const sent = this.#inFlight.get(agent.agent_id) ?? 0;
    return agent.load_factor + sent / (agent.max_concurrency ?? ASSUMED_CONCURRENCY);
  }

  async #attempt(agent: AgentInfo, call: Call, within: number): Promise<Outcome> {
    const agentId = agent.agent_id;
    const refusal = refusalOf(agent, call.topic);
    if (refusal !== undefined) return { why: refusal, mayHaveBegun: false };
    this.#count(agentId, 1);
    try {
      const reply = await this.connection.request(topicOf(agent, call.topic), call.body, within);
      return { answer: answerIn(agentId, reply) };
    } catch (error) {
      if (error instanceof NoRespondersError) return this.#failed(agentId, call.topic, "nobody listens", false);
      if (error instanceof NoReplyError) {
        return this.#failed(agentId, call.topic, `no answer within ${Number(within.toPrecision(2))} s`, true);
      }
      if (error instanceof AgentCallError && didNotBegin(error)) return { why: error.said, mayHaveBegun: false };
      throw error;
    } finally {
      this.#count(agentId, -1);
    }
  }

  #count(agentId: string, change: number): void {
    const sent = (this.#inFlight.get(agentId) ?? 0) + change;
    if (sent > 0) this.#inFlight.set(agentId, sent);
    else this.#inFlight.delete(agentId);
  }

  /** Tells the registry of a failure, so that it asks the agent itself; it may be the first to notice. */
  #failed(agentId: string, topic: string, why: string, mayHaveBegun: boolean): Outcome {
    if (now() >= (this.#reported.get(agentId) ?? -Infinity) + REPORT_PAUSE) {
      if (this.#reported.size >= MAX_REPORTED) this.#reported.clear();
      this.#reported.set(agentId, now());
      this.report(agentId, `${topic}: ${why}`);
    }
    return { why, mayHaveBegun };
  }
}

/** Asking anybody else would have it done twice. */
class FinalError extends Error {}

function gaveUp(query: ServiceQuery, within: number, call: Call): string {
  const wanted = [...(query.capabilities ?? [])].sort().join(", ");
  const reasons = [...call.failures].map(([agentId, why]) => `${agentId}: ${why}`);
  if (call.trouble) reasons.push(call.trouble);
  const what = call.failures.size > 0 ? `no agent for ${wanted} did '${call.topic}'` : `no agent found for ${wanted}`;
  return `${what} within ${within} s${reasons.length > 0 ? ` (${reasons.join("; ")})` : ""}`;
}
