// The errors of the registry: one class per code, the same on the wire and in process.

export const STATUS_HEADER = "Nats-Service-Error-Code";
export const MESSAGE_HEADER = "Nats-Service-Error";

/** Characters of the message that the header carries; the body has all of it. */
const MAX_HEADER_LENGTH = 1024;

/** One thing that was wrong: which field, and what would be right. */
export interface Detail {
  readonly field: string;
  readonly message: string;
}

/** The JSON body of an error reply. */
export interface ErrorBody {
  error: { code: string; message: string; details: readonly Detail[]; retryable: boolean };
}

/** Base of every error that the registry answers with. */
export class RegistryError extends Error {
  /** Stable name of the error; programs decide by this. */
  readonly code: string = "internal";
  /** The number in the `Nats-Service-Error-Code` header. */
  readonly status: number = 500;
  /** Whether the same request may succeed later, unchanged. */
  readonly retryable: boolean = false;
  /** What was wrong, field by field; may be empty. */
  readonly details: readonly Detail[];

  constructor(message: string, details: readonly Detail[] = []) {
    super(message);
    this.name = new.target.name;
    this.details = details;
  }

  /** Returns the JSON body of the error reply. */
  toBody(): ErrorBody {
    const { code, message, details, retryable } = this;
    return { error: { code, message, details, retryable } };
  }

  /** Returns the ADR-32 headers of the error reply: one line of ASCII, cut to what a header should hold. */
  toHeaders(): Record<string, string> {
    const text = escaped(this.message.slice(0, MAX_HEADER_LENGTH)).slice(0, MAX_HEADER_LENGTH);
    return { [STATUS_HEADER]: String(this.status), [MESSAGE_HEADER]: text };
  }
}

/** The request is not what the contract asks for; `details` names the fields. */
export class InvalidRequestError extends RegistryError {
  override readonly code = "invalid_request";
  override readonly status = 400;
}

/** The caller may not do this to this agent. */
export class ForbiddenError extends RegistryError {
  override readonly code = "forbidden";
  override readonly status = 403;
}

/** No such agent, policy or assignment; an agent that reads this registers again. */
export class NotFoundError extends RegistryError {
  override readonly code = "not_found";
  override readonly status = 404;
}

/** Another live instance holds this agent id; `details` names its `instance_id`. */
export class AlreadyRegisteredError extends RegistryError {
  override readonly code = "already_registered";
  override readonly status = 409;
}

/** A newer registration of this agent id exists; the sender has been replaced. */
export class StaleIncarnationError extends RegistryError {
  override readonly code = "stale_incarnation";
  override readonly status = 409;
}

/** The request contradicts the present state, for example a claim held by another agent. */
export class ConflictError extends RegistryError {
  override readonly code = "conflict";
  override readonly status = 409;
}

/** The payload is larger than the registry reads. */
export class PayloadTooLargeError extends RegistryError {
  override readonly code = "payload_too_large";
  override readonly status = 413;
}

/** There is more work than is accepted; try again after a jittered wait. */
export class OverloadedError extends RegistryError {
  override readonly code = "overloaded";
  override readonly status = 429;
  override readonly retryable = true;
}

/** The registry failed; its log has the particulars under the id in the message. */
export class InternalError extends RegistryError {
  override readonly code = "internal";
}

/** Nothing can be promised now: NATS or JetStream does not answer, or nobody is free. */
export class UnavailableError extends RegistryError {
  override readonly code = "unavailable";
  override readonly status = 503;
  override readonly retryable: boolean = true;
}

/** The connection was closed here, by whom it belongs to: it does not come back, and trying again is in vain. */
export class ClosedError extends UnavailableError {
  override readonly retryable = false;
}

/** The agent did not begin: nobody listens there, it has too much to do, or is leaving. Another one may be asked. */
export class NotBegunError extends UnavailableError {}

/** An agent took the request and answered with an error; it was not sent to another one. */
export class AgentCallError extends Error {
  constructor(
    /** The agent. */
    readonly agentId: string,
    /** Name of the error, for programs. */
    readonly code: string,
    /** Number of the error, as in HTTP. */
    readonly status: number,
    /** What the agent says. */
    readonly said: string,
  ) {
    super(`${agentId} answered ${code} (${status}): ${said}`);
    this.name = "AgentCallError";
  }
}

type ErrorClass = new (message: string, details?: readonly Detail[]) => RegistryError;

/** Error code to class. */
export const ERRORS: ReadonlyMap<string, ErrorClass> = new Map<string, ErrorClass>([
  ["invalid_request", InvalidRequestError],
  ["forbidden", ForbiddenError],
  ["not_found", NotFoundError],
  ["already_registered", AlreadyRegisteredError],
  ["stale_incarnation", StaleIncarnationError],
  ["conflict", ConflictError],
  ["payload_too_large", PayloadTooLargeError],
  ["overloaded", OverloadedError],
  ["internal", InternalError],
  ["unavailable", UnavailableError],
]);

/** Rebuilds the error of a reply body; an unknown code becomes an `InternalError` that names it. */
export function errorFromBody(body: { error: Record<string, unknown> }): RegistryError {
  const { code, message, details } = body.error;
  const known = ERRORS.get(String(code));
  const faults = (Array.isArray(details) ? details : []).map((each: Partial<Detail>) => ({
    field: String(each.field ?? ""),
    message: String(each.message ?? ""),
  }));
  const text = String(message ?? "");
  return known ? new known(text, faults) : new InternalError(`${text} (unknown error code '${code}')`, faults);
}

/** Returns the error for one field of a request that is wrong. */
export function refusal(field: string, message: string): InvalidRequestError {
  return new InvalidRequestError(`${field}: ${message}`, [{ field, message }]);
}

/** Returns a text in printable ASCII: what else is in it stands there as its code. */
function escaped(text: string): string {
  const short: Record<string, string> = { "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t" };
  return Array.from(text, (character) => {
    const code = character.codePointAt(0) ?? 0;
    if (character in short) return short[character];
    if (code >= 0x20 && code < 0x7f) return character;
    if (code <= 0xff) return `\\x${code.toString(16).padStart(2, "0")}`;
    return code <= 0xffff ? `\\u${code.toString(16).padStart(4, "0")}` : `\\U${code.toString(16).padStart(8, "0")}`;
  }).join("");
}
