// The words of the wire contract: subjects, headers, JSON to messages and back. See subjects.md.

import { errorFromBody, PayloadTooLargeError, refusal } from "./errors.js";

export const DEFAULT_PREFIX = "registry";

/** Larger payloads are refused. Bytes. */
export const MAX_PAYLOAD = 256 * 1024;

/** Deepest nesting of arrays and objects accepted in free-form values. */
export const MAX_NESTING = 64;

/** Characters of a short text for people. */
export const MAX_TEXT = 256;

/** Seconds that the registry waits at most for the revision that a query asks for. */
export const REVISION_WAIT = 1.0;

/** Header that names a command, so that it is carried out once however often it is sent. */
export const MESSAGE_ID = "Nats-Msg-Id";

/** Header of a request that is a canary, with the value 1: real work has none. */
export const CANARY_HEADER = "Registry-Canary";

/** Headers of requests for which the agent was assigned. */
export const ASSIGNMENT_HEADER = "Agent-Registry-Assignment";
export const TOKEN_HEADER = "Agent-Registry-Fencing-Token";

/** Topics that the SDK serves itself. */
export const HEALTH_CHECK = "health_check";
export const DRAIN = "drain";

/** Operations that change an agent; each is named by a `Nats-Msg-Id`. */
const COMMANDS: ReadonlySet<string> = new Set(["register", "deregister", "suspend", "resume", "drain"]);

const REPORTS = ["heartbeat", "health", "performance"];

/** Operations that are also served as `<subject>.<agent_id>`. */
const AGENT_BOUND: ReadonlySet<string> = new Set([...COMMANDS, ...REPORTS, "report", "get", "release"]);

/** Operations that go to one replica, by a queue group; each replica serves them under its own name, too. */
const SHARED: ReadonlySet<string> = new Set([...COMMANDS, "get", "discover", "stats", "capabilities", "schema"]);

const CHANGES: ReadonlySet<string> = new Set([
  ...COMMANDS,
  ...REPORTS,
  "scaling.set",
  "conflict.set",
  "assign",
  "release",
]);

export const isCommand = (operation: string): boolean => COMMANDS.has(operation);
export const isShared = (operation: string): boolean => SHARED.has(operation);
export const isChange = (operation: string): boolean => CHANGES.has(operation);

/** A JSON object. */
export type Fields = Record<string, unknown>;

export const AGENT_ID = /^[A-Za-z0-9_-]{1,128}$/;
const PREFIX = /^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$/;

/** Builds the subjects of one registry. */
export class Subjects {
  constructor(readonly prefix: string = DEFAULT_PREFIX) {
    if (!PREFIX.test(prefix)) {
      throw refusal("prefix", `must be letters, digits, _ and -, in tokens joined by dots; got '${prefix}'`);
    }
  }

  /** Returns the subject of a request: agent-bound if it names an agent, one replica's if one is given. */
  operation(name: string, fields: Fields = {}, replica?: string): string {
    const start = replica === undefined ? this.prefix : `${this.prefix}.replica.${replica}`;
    const agentId = fields["agent_id"];
    // An ill-formed id cannot be part of a subject; the plain form carries it to the registry, which says so.
    const bound = AGENT_BOUND.has(name) && typeof agentId === "string" && AGENT_ID.test(agentId);
    return bound ? `${start}.${name}.${agentId}` : `${start}.${name}`;
  }

  /** Returns the pattern that receives the events of one kind, or every event. */
  events(kind?: string): string {
    return kind === undefined ? `${this.prefix}.events.>` : `${this.prefix}.events.${kind}.>`;
  }

  /** Returns the pattern that receives what is announced of one agent's status. */
  statusOf(agentId: string): string {
    return `${this.prefix}.events.status.*.${agentId}`;
  }

  /** Returns the kind of an event, from its subject. */
  kindOf(subject: string): string {
    return subject.slice(`${this.prefix}.events.`.length).split(".")[0] ?? "";
  }
}

/** Returns the subject of an agent's topic, for example `agent.trader-1.quote`. */
export function agentTopic(agentId: string, topic: string): string {
  return `agent.${agentId}.${topic}`;
}

/** An agent, as far as it says how it is asked. */
interface Asked {
  agent_id: string;
  adopted?: { protocol: string; endpoints: Record<string, string> } | null;
}

/** Returns the subject on which one of an agent's topics is reached; a service that was adopted has its own. */
export function topicOf(agent: Asked, topic: string): string {
  return agent.adopted?.endpoints[topic] ?? agentTopic(agent.agent_id, topic);
}

/** Returns why one of an agent's topics cannot be asked by one request with one answer; undefined if it can. */
export function refusalOf(agent: Asked, topic: string): string | undefined {
  if (agent.adopted?.protocol !== "synadia" || topic !== "prompt") return undefined;
  const there = `prompt it on ${topicOf(agent, topic)} with a client of the Synadia Agent Protocol`;
  return `prompts are answered by a stream; ${there}`;
}

const UTF8 = new TextDecoder("utf-8", { fatal: true });

/** Returns the JSON object in a payload; an empty payload is an empty object. */
export function parse(payload: Uint8Array): Fields {
  if (payload.length === 0) return {};
  if (payload.length > MAX_PAYLOAD) {
    throw new PayloadTooLargeError(`payload: ${payload.length} bytes; at most ${MAX_PAYLOAD} are read`);
  }
  let parsed: unknown;
  try {
    parsed = JSON.parse(UTF8.decode(payload));
  } catch (error) {
    throw refusal("payload", `is not JSON: ${error instanceof SyntaxError ? error.message : "it is not UTF-8"}`);
  }
  if (!isObject(parsed)) throw refusal("payload", `must be a JSON object; is ${kindOf(parsed)}`);
  for (const [name, value] of Object.entries(parsed)) {
    const depth = nesting(value);
    if (depth > MAX_NESTING) throw refusal(name, `must nest at most ${MAX_NESTING} levels; nests ${depth}`);
  }
  return parsed;
}

/** Returns the JSON object of a reply; throws the error that it is, if it is one. */
export function decodeReply(payload: Uint8Array): Fields {
  const reply = JSON.parse(UTF8.decode(payload)) as unknown;
  if (!isObject(reply)) throw refusal("reply", `must be a JSON object; is ${kindOf(reply)}`);
  if (isObject(reply["error"])) throw errorFromBody({ error: reply["error"] });
  return reply;
}

/** Returns fields as JSON; a set becomes a sorted array. What JSON has no form for is refused, with where it is. */
export function encode(fields: Fields): string {
  return JSON.stringify(fields, function (this: Fields, name: string, value: unknown) {
    if (typeof value === "number" && !Number.isFinite(value)) throw refusal(name, "must be a finite number");
    if (typeof value === "bigint") throw refusal(name, "must be JSON; is a BigInt");
    return value instanceof Set ? [...value].sort() : value;
  });
}

/** Returns whether a value is a JSON object. */
export function isObject(value: unknown): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Returns how deep arrays and objects nest in a value; a scalar is 0. */
export function nesting(value: unknown): number {
  let depth = 0;
  let level = [value];
  while (level.some((item) => typeof item === "object" && item !== null)) {
    depth += 1;
    level = level.flatMap((item) => (typeof item === "object" && item !== null ? Object.values(item) : []));
  }
  return depth;
}

/** Returns what JSON calls a value of this kind. */
function kindOf(value: unknown): string {
  if (value === null) return "null";
  if (Array.isArray(value)) return "an array";
  return { boolean: "true or false", number: "a number", string: "a string" }[typeof value as string] ?? "an object";
}
