// What a handler works on: whether it is a canary, and which assignment it is for.

import { AsyncLocalStorage } from "node:async_hooks";
import { ASSIGNMENT_HEADER, CANARY_HEADER, TOKEN_HEADER } from "./protocol.js";

/** What a request says of its assignment. */
export interface AssignedWork {
  assignmentId: string;
  /** To be passed on to whatever refuses a lower one than it has seen; undefined if the request has none. */
  fencingToken: number | undefined;
}

/** What the headers of a request say. */
export interface Work {
  isCanary: boolean;
  assigned: AssignedWork | undefined;
}

interface Headers {
  get(name: string): string;
}

const current = new AsyncLocalStorage<Work>();

/** Returns whether the request that is being handled is a canary: a test, of which nothing must come but the answer. */
export function isCanary(): boolean {
  return current.getStore()?.isCanary ?? false;
}

/** Returns which assignment the request is for that a handler works on; undefined if it came without one. */
export function assignedWork(): AssignedWork | undefined {
  return current.getStore()?.assigned;
}

/** Reads the headers of a request. */
export function workOf(headers: Headers | undefined): Work {
  const assignmentId = headers?.get(ASSIGNMENT_HEADER) ?? "";
  const token = headers?.get(TOKEN_HEADER) ?? "";
  const fencingToken = /^\d+$/.test(token) && Number.isSafeInteger(Number(token)) ? Number(token) : undefined;
  return {
    isCanary: headers?.get(CANARY_HEADER) === "1",
    assigned: assignmentId === "" ? undefined : { assignmentId, fencingToken },
  };
}

/** Runs a function as what works on a request. */
export function working<T>(work: Work, run: () => T): T {
  return current.run(work, run);
}
