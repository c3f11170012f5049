// What an agent answers: a value, or an error.

import type { Msg } from "./connection.js";
import { AgentCallError, MESSAGE_HEADER, STATUS_HEADER } from "./errors.js";

/** Returns whether a reply says that the agent did not begin: it has too much to do, or is leaving. */
export function didNotBegin(error: AgentCallError): boolean {
  return error.status === 429 || error.status === 503;
}

/** Returns the value that an agent answered with, undefined for an empty answer; throws `AgentCallError`. */
export function answerIn(agentId: string, reply: Pick<Msg, "data" | "headers">): unknown {
  const status = reply.headers?.get(STATUS_HEADER);
  const text = new TextDecoder().decode(reply.data);
  if (status) throw callError(agentId, status, reply.headers?.get(MESSAGE_HEADER) || "no message", text);
  try {
    return text === "" ? undefined : JSON.parse(text);
  } catch (error) {
    throw new AgentCallError(agentId, "internal", 500, `what it answered is not JSON: ${(error as Error).message}`);
  }
}

/** Reads an error reply: its headers (ADR-32), and its body if it is one of ours. */
function callError(agentId: string, status: string, said: string, text: string): AgentCallError {
  const number = /^\d+$/.test(status) ? Number(status) : 500;
  try {
    const { code, message } = JSON.parse(text).error;
    return new AgentCallError(agentId, String(code), number, String(message));
  } catch {
    return new AgentCallError(agentId, status, number, said); // it has no body of ours
  }
}
