// Asking the registry: the one place where a request is repeated.

import { randomBytes } from "node:crypto";
import { type Connection, NoReplyError, NoRespondersError } from "./connection.js";
import { ForbiddenError, RegistryError, UnavailableError } from "./errors.js";
import {
  decodeReply,
  encode,
  type Fields,
  isChange,
  isCommand,
  isShared,
  MAX_TEXT,
  MESSAGE_ID,
  REVISION_WAIT,
  type Subjects,
} from "./protocol.js";
import { Backoff } from "./retry.js";
import { now, sleep } from "./time.js";

/** How many times a request that may be lost is sent within its time. */
const ATTEMPTS_ON_SILENCE = 2;

/** Seconds that an answer is given beyond those for which the registry may hold it back. */
const ON_ITS_WAY = 0.25;

/** Share of its time that one attempt may take: a replica that stands still must leave time for another one. */
const MAX_PATIENCE = 0.75;

/** Seconds to wait for any replica to say that it is there. */
const ROLL_CALL = 0.5;

/** Seconds that registering takes at most: the present holder of the id may have to be probed. */
export const REGISTER_TIMEOUT = 10;

/** Seconds after which a registry that may still wait for an agent to be free is asked whether it is still there. */
const ASK_AGAIN = 3.5;

export interface AskOptions {
  /** Whether asking twice is the same as asking once. */
  idempotent?: boolean;
  /** Seconds that this takes at most, repetitions included. */
  within?: number;
  /** Whether to try again at all; not for who has a plan of its own for that. */
  repeat?: boolean;
  /** Seconds, beyond those, for which the registry may wait for an agent to be free. */
  wait?: number;
}

type Failure = NoRespondersError | NoReplyError | RegistryError;

/**
 * Sends requests to one registry and throws its errors.
 *
 * When nobody listens, or the registry says that trying again may help, the request is repeated after a jittered wait
 * until its time is over. Silence is another matter: the registry may have done what it was asked, so only what can be
 * asked twice without harm is repeated. Commands can: their message id makes one of them. And the replica that NATS
 * chose may stand still, so the second time a replica is asked that has just said that it is there. When the connection
 * is lost, the answer is: what can be asked twice is not waited for any longer.
 */
export class Requester {
  constructor(
    private readonly connection: Connection,
    readonly subjects: Subjects,
    private readonly timeout: number,
  ) {}

  /** Returns the registry's answer; throws what the registry answered, `UnavailableError` if it did not in time. */
  async ask(operation: string, fields: Fields, options: AskOptions = {}): Promise<Fields> {
    const { idempotent = true, repeat = true, wait = 0 } = options;
    const total = wait + (options.within ?? this.timeout);
    const deadline = now() + total;
    const until = now() + wait;
    const again = idempotent && repeat;
    const patience = again ? patienceOf(fields, total, wait > 0 ? ASK_AGAIN : total) : total;
    const headers = isCommand(operation) ? { [MESSAGE_ID]: randomBytes(8).toString("hex") } : undefined;
    const backoff = new Backoff();
    let subject = this.subjects.operation(operation, fields);
    let payload = encode(fields);
    let failure: Failure | undefined;
    for (;;) {
      const outcome = await this.#attempt(subject, payload, headers, Math.min(patience, deadline - now()), again);
      if (!(outcome instanceof Error)) return outcome;
      const silent = outcome instanceof NoReplyError;
      // Silence after an answer is no news of a query.
      if (!silent || !(failure instanceof RegistryError) || isChange(operation)) failure = outcome;
      const pause = silent ? 0 : backoff.next();
      if (deadline - now() <= pause || !repeat || (silent && !idempotent)) throw gaveUp(failure, operation, total);
      await sleep(pause);
      const replica =
        silent && isShared(operation) ? await this.#whoAnswers(Math.min(ROLL_CALL, (deadline - now()) / 2)) : undefined;
      subject = this.subjects.operation(operation, fields, replica);
      if (wait > 0) payload = encode({ ...fields, wait: Math.max(0, until - now()) });
    }
  }

  /** Reports a problem with an agent and waits for nothing: a hint that is lost is no harm. */
  hint(agentId: string, problem: string): void {
    this.#tell("report", { agent_id: agentId, problem: problem.slice(0, MAX_TEXT) });
  }

  /** Says that a task needs no agent any more, and waits for nothing: what is lost ends by itself. */
  withdraw(taskId: string): void {
    this.#tell("release", { task_id: taskId });
  }

  #tell(operation: string, fields: Fields): void {
    if (this.connection.isConnected)
      this.connection.publish(this.subjects.operation(operation, fields), encode(fields));
  }

  /** Asks once; returns the answer, or a failure after which asking again may help. */
  async #attempt(
    subject: string,
    payload: string,
    headers: Record<string, string> | undefined,
    within: number,
    again: boolean,
  ): Promise<Fields | Failure> {
    try {
      const asked = this.connection.request(subject, payload, within, headers);
      const reply = await (again ? this.#unlessLost(asked) : asked);
      return decodeReply(reply.data);
    } catch (error) {
      if (error instanceof NoRespondersError || error instanceof NoReplyError) return error;
      if (error instanceof RegistryError && error.retryable && !isFinal(error)) return error;
      throw error;
    }
  }

  /** Waits for a reply as long as the connection is there on which it would come. */
  async #unlessLost<T>(asked: Promise<T>): Promise<T> {
    let listener = (_connected: boolean): void => undefined;
    const lost = new Promise<never>((_, reject) => {
      listener = (connected) => {
        if (!connected) reject(new NoReplyError("the connection was lost"));
      };
    });
    this.connection.listen(listener);
    asked.catch(() => undefined); // nobody may be waiting for it any more
    try {
      return await Promise.race([asked, lost]);
    } finally {
      this.connection.unlisten(listener);
    }
  }

  /** Returns a replica that is there now; undefined if none says so. */
  async #whoAnswers(within: number): Promise<string | undefined> {
    try {
      const reply = await this.connection.request(`${this.subjects.prefix}.replicas`, "", within);
      return String(decodeReply(reply.data)["replica"]);
    } catch (error) {
      const absent = error instanceof NoRespondersError || error instanceof NoReplyError;
      if (absent || error instanceof ForbiddenError || error instanceof UnavailableError) return undefined;
      throw error;
    }
  }
}

/** Returns whether a registry has looked for an agent for as long as it was to: then it names the field. */
export function isFinal(error: RegistryError): boolean {
  return error.details.some((detail) => detail.field === "wait");
}

/** Returns how many seconds of its time a request spends on one attempt, `most` at most. */
function patienceOf(fields: Fields, total: number, most: number): number {
  let patience = Math.min(total / ATTEMPTS_ON_SILENCE, most);
  // Else the registry's "not yet" would come too late, and be taken for silence.
  if (fields["min_revision"]) patience = Math.max(patience, REVISION_WAIT + ON_ITS_WAY);
  return Math.min(patience, total * MAX_PATIENCE);
}

function gaveUp(failure: Failure, operation: string, total: number): UnavailableError {
  if (failure instanceof UnavailableError) return failure;
  if (failure instanceof NoRespondersError) return new UnavailableError(`no registry serves '${operation}' now`);
  if (failure instanceof NoReplyError) {
    const unknown = isChange(operation) ? "; whether it was done is unknown" : "";
    return new UnavailableError(`no answer to '${operation}' within ${total} s${unknown}`);
  }
  return new UnavailableError(`'${operation}' was put off for ${total} s: ${failure.message}`);
}
