// What an agent says of itself, checked where it is written: the registry would refuse it later, in the same words.

import { InvalidRequestError, type Detail } from "./errors.js";
import { type Fields, isObject, MAX_NESTING, nesting } from "./protocol.js";

/** Bytes of free-form values, as JSON. */
const MAX_FREE_FORM = 16 * 1024;

/** At most this many faults are named in one error. */
const MAX_DETAILS = 20;

/** Characters of a given value that an error shows. */
const MAX_SHOWN = 80;

/** Adds to `faults` what is wrong with a value, and returns the value as it is sent. */
type Check = (value: unknown, path: string, faults: Detail[]) => unknown;

interface Rule {
  check: Check;
  required?: boolean;
}

const AGENT_ID_WORDS = "1 to 128 characters of A-Z, a-z, 0-9, _ and -";
const NAME_WORDS = "1 to 128 characters of letters, digits, _ . + and -, a letter or digit first";
const CAPABILITY_WORDS = "1 to 64 characters of a-z, 0-9, _ and -, a letter or digit first";
const HEALTH_SUBJECT_WORDS =
  "a NATS subject without wildcards or spaces, which begins neither with $ nor with _, " +
  "such as agent.trader-1.health_check";
const TOPIC_WORDS = "one or more tokens joined by dots, without wildcards or spaces, such as quote or orders.check";

const agentId = text(/^[A-Za-z0-9_-]{1,128}$/, AGENT_ID_WORDS);
const name = text(/^[A-Za-z0-9][A-Za-z0-9_.+-]{0,127}$/, NAME_WORDS);
const healthSubject = text(/^[^\s.*>$_][^\s.*>]*(\.[^\s.*>]+)*$/, HEALTH_SUBJECT_WORDS, 256);
const topic = text(/^[^\s.*>]+(\.[^\s.*>]+)*$/, TOPIC_WORDS, 256);
const score = number(0, 1);
const count = number(0, 2 ** 53, true);
const anyNumber = number(-Infinity, Infinity);
const lowered = text(/^[a-z0-9][a-z0-9_-]{0,63}$/, CAPABILITY_WORDS);
const capability: Check = (value, path, faults) =>
  lowered(typeof value === "string" ? value.trim().toLowerCase() : value, path, faults);

const flag: Check = (value, path, faults) => {
  if (typeof value !== "boolean") wrong(faults, path, `must be true or false${unquoted(value)}`, value);
  return value;
};

const freeForm: Check = (value, path, faults) => {
  if (!isObject(value)) return wrong(faults, path, "must be an object", value);
  const depth = nesting(value);
  const size = Buffer.byteLength(JSON.stringify(value));
  if (depth > MAX_NESTING) {
    faults.push({ field: path, message: `must nest at most ${MAX_NESTING} levels; nests ${depth}` });
  } else if (size > MAX_FREE_FORM) {
    faults.push({ field: path, message: `must be at most ${MAX_FREE_FORM} bytes as JSON; is ${size}` });
  }
  return value;
};

const metrics: Check = (value, path, faults) => {
  if (!isObject(value)) return wrong(faults, path, "must be an object", value);
  const names = Object.keys(value);
  if (names.length > 64) {
    faults.push({ field: path, message: `must have 64 or fewer entries; has ${names.length}` });
    return value;
  }
  for (const key of names) {
    if (key.length < 1) faults.push({ field: path, message: "a name in it must have 1 or more characters; got ''" });
    if (key.length > 64) {
      faults.push({ field: path, message: `a name in it must have 64 or fewer characters; got ${shown(key)}` });
    }
    (key === "success_rate" ? score : anyNumber)(value[key], `${path}.${key}`, faults);
  }
  return value;
};

const CANARY: Record<string, Rule> = {
  topic: { check: topic, required: true },
  payload: { check: freeForm },
  expect: { check: freeForm },
  timeout: { check: number(0.05, 60) },
  period: { check: number(1, 86_400) },
};

const canary: Check = (value, path, faults) => {
  if (!isObject(value)) return wrong(faults, path, "must be an object", value);
  return checked(CANARY, value, faults, `${path}.`, true);
};

const canaries: Check = (value, path, faults) => {
  if (!isObject(value)) return wrong(faults, path, "must be an object", value);
  const entries = Object.entries(value);
  if (entries.length > 16) {
    faults.push({ field: path, message: `must have 16 or fewer entries; has ${entries.length}` });
    return value;
  }
  return Object.fromEntries(entries.map(([key, each]) => [key, canary(each, `${path}.${key}`, faults)]));
};

const connection: Check = (value, path, faults) => {
  if (!isObject(value)) return wrong(faults, path, "must be an object", value);
  const rules = { server_id: { check: name, required: true }, client_id: { check: count, required: true } };
  return checked(rules, value, faults, `${path}.`, true);
};

const REGISTRATION: Record<string, Rule> = {
  agent_type: { check: name, required: true },
  capabilities: { check: list(capability, 1), required: true },
  agent_id: { check: optional(agentId) },
  metadata: { check: freeForm },
  version: { check: name },
  tags: { check: list(name, 0) },
  instance_id: { check: optional(name) },
  heartbeat_interval: { check: optional(number(0.1, 3600)) },
  heartbeat_timeout: { check: optional(number(0.2, 86_400)) },
  health_subject: { check: optional(healthSubject) },
  max_concurrency: { check: optional(number(1, 100_000, true)) },
  claims: { check: list(name, 0) },
  takeover: { check: flag },
  canaries: { check: canaries },
  connection: { check: optional(connection) },
};

const HEARTBEAT: Record<string, Rule> = {
  agent_id: { check: agentId, required: true },
  incarnation: { check: optional(count) },
  seq: { check: optional(count) },
  health_score: { check: optional(score) },
  load_factor: { check: optional(score) },
  response_time: { check: optional(number(0, 86_400)) },
  metrics: { check: optional(metrics) },
  busy_until: { check: optional(number(0, Infinity)) },
};

/**
 * Returns a registration as it is sent: lists sorted and without repetitions, what is undefined left out.
 *
 * Throws an `InvalidRequestError` with one detail a fault: the field, what was given, what would be accepted.
 */
export function checkRegistration(fields: Fields): Fields {
  return refusing((faults) => checked(REGISTRATION, fields, faults, "", true));
}

/** Returns a heartbeat as it is sent; throws as `checkRegistration` does. */
export function checkHeartbeat(fields: Fields): Fields {
  return refusing((faults) => checked(HEARTBEAT, fields, faults, "", false));
}

/** Returns whether a text can be the topic of an agent. */
export function isTopic(value: unknown): boolean {
  const faults: Detail[] = [];
  topic(value, "topic", faults);
  return faults.length === 0;
}

function refusing(check: (faults: Detail[]) => Fields): Fields {
  const faults: Detail[] = [];
  const fields = check(faults);
  if (faults.length === 0) return fields;
  const details = faults.slice(0, MAX_DETAILS);
  const told = details.slice(0, 3).map((each) => `${each.field}: ${each.message}`);
  const further = faults.length > 3 ? `; and ${faults.length - 3} more` : "";
  throw new InvalidRequestError(told.join("; ") + further, details);
}

function checked(rules: Record<string, Rule>, fields: Fields, faults: Detail[], at: string, strict: boolean): Fields {
  const found: Fields = {};
  for (const [field, { check, required }] of Object.entries(rules)) {
    const value = fields[field];
    if (value !== undefined) found[field] = check(value, at + field, faults);
    else if (required) faults.push({ field: at + field, message: "is required" });
  }
  for (const field of strict ? Object.keys(fields) : []) {
    if (field in rules) continue;
    const message = at
      ? `is not a field of ${at.slice(0, -1)}`
      : `is not a field of this request; its fields are ${Object.keys(rules).join(", ")}`;
    faults.push({ field: at + field, message });
  }
  return found;
}

function optional(check: Check): Check {
  return (value, path, faults) => (value === null ? null : check(value, path, faults));
}

function text(pattern: RegExp, words: string, longest?: number): Check {
  return (value, path, faults) => {
    if (typeof value !== "string") return wrong(faults, path, "must be a string", value);
    if (longest !== undefined && value.length > longest) {
      return wrong(faults, path, `must have ${longest} or fewer characters`, value);
    }
    return pattern.test(value) ? value : wrong(faults, path, `must be ${words}`, value);
  };
}

function number(least: number, most: number, whole = false): Check {
  return (value, path, faults) => {
    if (typeof value !== "number") {
      return wrong(faults, path, `must be a ${whole ? "whole " : ""}number${unquoted(value)}`, value);
    }
    if (!Number.isFinite(value)) return wrong(faults, path, "must be a finite number", value);
    if (whole && !Number.isInteger(value)) return wrong(faults, path, "must be a whole number", value);
    if (value < least) return wrong(faults, path, `must be at least ${least}`, value);
    if (value > most) return wrong(faults, path, `must be at most ${most}`, value);
    return value;
  };
}

function list(each: Check, fewest: number): Check {
  return (value, path, faults) => {
    if (!Array.isArray(value)) return wrong(faults, path, `must be an array${listed(value)}`, value);
    const items = value.map((item, at) => each(item, `${path}[${at}]`, faults));
    if (items.length < fewest) {
      faults.push({ field: path, message: `must have ${fewest} or more entries; has ${items.length}` });
    }
    const sorted = [...new Set(items)].sort();
    if (sorted.length > 64) {
      faults.push({ field: path, message: `must have 64 or fewer entries; has ${sorted.length}` });
    }
    return sorted;
  };
}

function wrong(faults: Detail[], field: string, message: string, value: unknown): unknown {
  faults.push({ field, message: `${message}; got ${shown(value)}` });
  return value;
}

/** Returns how to write a number, true or false that stands in quotes. */
function unquoted(value: unknown): string {
  return typeof value === "string" && /^(-?\d+(\.\d+)?|true|false)$/.test(value) ? ", without quotes" : "";
}

/** Returns how to write the list that a text seems to mean. */
function listed(value: unknown): string {
  const meant = typeof value === "string" ? value.slice(0, MAX_SHOWN).match(/[^\s,]+/g) : null;
  return meant === null ? "" : `, such as ${shortened(JSON.stringify(meant))}`;
}

function shortened(text: string): string {
  return text.length <= MAX_SHOWN ? text : `${text.slice(0, MAX_SHOWN - 3)}...`;
}

/** Returns a given value as an error shows it: text in quotes, anything else as JSON. */
function shown(value: unknown): string {
  const whole = typeof value === "string" ? value : (JSON.stringify(value) ?? String(value));
  const short = shortened(whole);
  return typeof value === "string" ? quoted(short) : short;
}

function quoted(value: string): string {
  const quote = value.includes("'") && !value.includes('"') ? '"' : "'";
  const inner = value.replace(/\\/g, "\\\\").replace(/\n/g, "\\n").replace(/\r/g, "\\r").replace(/\t/g, "\\t");
  return quote + (quote === "'" ? inner.replace(/'/g, "\\'") : inner) + quote;
}
