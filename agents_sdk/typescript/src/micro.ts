// An agent as a NATS micro service (ADR-32), so that `nats micro ls`, `info` and `stats` show it.

import { agentTopic, type Fields } from "./protocol.js";
import type { Vitals } from "./vitals.js";

const TYPE = "io.nats.micro.v1.";
const SEMVER = /^\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?$/;

/** Answers PING, INFO and STATS for an agent. */
export class MicroService {
  /** Topic to the text of its last error. */
  readonly lastErrors = new Map<string, string>();
  readonly #name: string;
  readonly #started = new Date().toISOString();
  readonly #identity: Fields;

  constructor(
    private readonly agentId: string,
    agentType: string,
    private readonly instanceId: string,
    version: string,
    private readonly vitals: Vitals,
  ) {
    this.#name = serviceName(agentType);
    this.#identity = {
      name: this.#name,
      id: instanceId,
      version: SEMVER.test(version) ? version : "0.0.0", // the `nats` CLI asks for SemVer
      metadata: { agent_id: agentId, agent_type: agentType, agent_version: version },
    };
  }

  /** Where it is asked. */
  get subjects(): string[] {
    return ["$SRV.*", `$SRV.*.${this.#name}`, `$SRV.*.${this.#name}.${this.instanceId}`];
  }

  /** Returns the response to a request on one of `subjects`, undefined for a verb that there is not. */
  respond(subject: string): Fields | undefined {
    switch (subject.split(".")[1]) {
      case "PING":
        return { type: `${TYPE}ping_response`, ...this.#identity };
      case "INFO":
        return this.#info();
      case "STATS":
        return this.#stats();
      default:
        return undefined;
    }
  }

  #info(): Fields {
    const endpoints = [...this.vitals.counts().keys()].map((topic) => ({ ...this.#endpoint(topic), metadata: {} }));
    // Without a description the `nats` CLI hides a service.
    const description = `Agent ${this.agentId}`;
    return { type: `${TYPE}info_response`, ...this.#identity, description, endpoints };
  }

  #stats(): Fields {
    const endpoints = [...this.vitals.counts()].map(([topic, { requests, errors, seconds }]) => ({
      ...this.#endpoint(topic),
      num_requests: requests,
      num_errors: errors,
      last_error: this.lastErrors.get(topic) ?? "",
      processing_time: Math.trunc(seconds * 1e9),
      average_processing_time: requests > 0 ? Math.trunc((seconds * 1e9) / requests) : 0,
    }));
    return { type: `${TYPE}stats_response`, ...this.#identity, started: this.#started, endpoints };
  }

  #endpoint(topic: string): Fields {
    return { name: serviceName(topic), subject: agentTopic(this.agentId, topic), queue_group: "" };
  }
}

/** Returns a text as a name that ADR-32 accepts. */
function serviceName(text: string): string {
  return text.replace(/[^A-Za-z0-9_-]/g, "-");
}
