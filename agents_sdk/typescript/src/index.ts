// The SDK of the agent registry: write an agent with `Agent`, find and call agents with `RegistryClient`.

export { Agent, type AgentOptions, type Canary, REFUSED } from "./agent.js";
export { Assignment } from "./assignment.js";
export { type AssignOptions, type CallOptions, type ClientOptions, RegistryClient } from "./client.js";
export {
  AgentCallError,
  AlreadyRegisteredError,
  ClosedError,
  ConflictError,
  type Detail,
  ForbiddenError,
  InternalError,
  InvalidRequestError,
  NotBegunError,
  NotFoundError,
  OverloadedError,
  PayloadTooLargeError,
  RegistryError,
  StaleIncarnationError,
  UnavailableError,
} from "./errors.js";
export type { Event, EventKind } from "./events.js";
export type { Level, Log } from "./log.js";
export type * from "./messages.js";
export type { Fields } from "./protocol.js";
export type { Handler } from "./serving.js";
export type { Change } from "./watch.js";
export { type AssignedWork, assignedWork, isCanary } from "./work.js";
