// An assignment in the hands of whoever asked for it.

import { type Connection, type Msg, NoReplyError, NoRespondersError } from "./connection.js";
import { AgentCallError, NotBegunError, NotFoundError, UnavailableError } from "./errors.js";
import type { AgentInfo, Grant } from "./messages.js";
import { ASSIGNMENT_HEADER, encode, type Fields, TOKEN_HEADER, refusalOf, topicOf } from "./protocol.js";
import { answerIn, didNotBegin } from "./replies.js";
import type { Requester } from "./requester.js";
import { now, sleep } from "./time.js";

/** Seconds for which an agent is new: it takes requests a moment after it has registered. */
const NEW = 1.0;

/** Seconds for which a new agent that nobody listens for is asked again; it cannot have begun. */
const NEW_PATIENCE = 0.5;
const NEW_PAUSE = 0.05;

/** Slots of an agent, reserved until the assignment is released, its time is over, or its agent is gone. */
export class Assignment {
  constructor(
    private grant: Grant,
    private readonly ttl: number,
    private readonly connection: Connection,
    private readonly requester: Requester,
  ) {}

  get assignmentId(): string {
    return this.grant.assignment_id;
  }

  /** Names the task: asked for again with it, the answer is this assignment as long as it lives. */
  get taskId(): string {
    return this.grant.task_id;
  }

  /** Whose slots they are, as it was then. */
  get agent(): AgentInfo {
    return this.grant.agent;
  }

  get slots(): number {
    return this.grant.slots;
  }

  /** Grows with each assignment: whoever guards a resource refuses a lower one than it has seen. */
  get fencingToken(): number {
    return this.grant.fencing_token;
  }

  /** Unix time in seconds at which it ends by itself, as far as is known here. */
  get expiresAt(): number {
    return this.grant.expires_at;
  }

  /** Has it end `ttl` seconds from now; its id and its token stay. Throws `NotFoundError` if it has ended. */
  async renew(ttl = this.ttl): Promise<void> {
    const fields = { task_id: this.taskId, ttl, renew: true };
    const grant = (await this.requester.ask("assign", fields)) as unknown as Grant;
    if (grant.assignment_id !== this.assignmentId) {
      throw new NotFoundError(`${this.assignmentId} has ended; '${this.taskId}' is assigned anew`);
    }
    this.grant = grant;
  }

  /**
   * Has the agent do something, and returns its answer. It is asked once; if it has just registered, and nobody listens
   * yet, that is asked again for half a second.
   *
   * Throws `AgentCallError` if the agent answers with an error, `NotBegunError` if it is not there, has too much to do,
   * or is leaving, `UnavailableError` if it does not answer within `timeout` seconds.
   */
  async call(topic: string, payload: Fields = {}, { timeout = 5 }: { timeout?: number } = {}): Promise<unknown> {
    const agentId = this.agent.agent_id;
    const refusal = refusalOf(this.agent, topic);
    if (refusal !== undefined) throw new NotBegunError(`${agentId}: ${refusal}`);
    try {
      return answerIn(agentId, await this.#request(topicOf(this.agent, topic), encode(payload), timeout));
    } catch (error) {
      if (error instanceof NoRespondersError) {
        this.requester.hint(agentId, `${topic}: nobody listens`);
        throw new NotBegunError(`${agentId}: nobody listens to '${topic}'`);
      }
      if (error instanceof NoReplyError) {
        this.requester.hint(agentId, `${topic}: no answer within ${timeout} s`);
        throw new UnavailableError(`${agentId}: no answer within ${timeout} s; it may have begun`);
      }
      if (error instanceof AgentCallError && didNotBegin(error)) throw new NotBegunError(error.message);
      throw error;
    }
  }

  /** Ends it: its work is done. Returns false if it has ended before. */
  async release(): Promise<boolean> {
    const answer = await this.requester.ask("release", { assignment_id: this.assignmentId });
    return Boolean(answer["released"]);
  }

  async #request(subject: string, body: string, within: number): Promise<Msg> {
    const headers = { [ASSIGNMENT_HEADER]: this.assignmentId, [TOKEN_HEADER]: String(this.fencingToken) };
    const started = now();
    const isNew = this.grant.assigned_at - (this.agent.status_since ?? 0) < NEW;
    const patience = isNew ? Math.min(within, NEW_PATIENCE) : 0;
    for (;;) {
      try {
        return await this.connection.request(subject, body, started + within - now(), headers);
      } catch (error) {
        if (!(error instanceof NoRespondersError) || now() + NEW_PAUSE > started + patience) throw error;
      }
      await sleep(NEW_PAUSE);
    }
  }
}
