// The messages of the wire contract, with the names that they have there. Readers expect further fields.

import type { Fields } from "./protocol.js";

export type AgentStatus = "registering" | "active" | "degraded" | "suspended" | "deregistering" | "offline";

/** A request with a known answer, as it stands in a registration. */
export interface DeclaredCanary {
  topic: string;
  payload: Fields;
  expect: Fields;
  /** Seconds. */
  timeout: number;
  /** Seconds. */
  period: number;
}

/** What an agent says of itself when it registers. */
export interface Registration {
  agent_type: string;
  capabilities: readonly string[];
  agent_id?: string;
  metadata?: Fields;
  version?: string;
  tags?: readonly string[];
  instance_id?: string;
  heartbeat_interval?: number;
  heartbeat_timeout?: number;
  health_subject?: string;
  max_concurrency?: number;
  claims?: readonly string[];
  takeover?: boolean;
  canaries?: Record<string, Partial<DeclaredCanary>>;
  connection?: { server_id: string; client_id: number };
}

/** The registration is durable. */
export interface Receipt {
  agent_id: string;
  status: AgentStatus;
  incarnation: number;
  revision: number;
  /** Seconds between two heartbeats that the registry expects. */
  heartbeat_interval: number;
  heartbeat_timeout: number;
  registered_at: number;
}

/** A report was heard. */
export interface Ack {
  agent_id: string;
  status: AgentStatus;
  incarnation: number;
  revision: number;
  /** Slots of the agent that assignments reserve. */
  reserved?: number;
}

/** An agent as the registry knows it. */
export interface AgentInfo {
  agent_id: string;
  agent_type: string;
  capabilities: string[];
  status: AgentStatus;
  registered_at: number;
  last_heartbeat: number;
  metadata: Fields;
  performance_metrics: Record<string, number>;
  health_score: number;
  load_factor: number;
  version: string;
  tags: string[];
  status_reason: string | null;
  status_note: string | null;
  status_since: number | null;
  load_age: number | null;
  instance_id: string | null;
  incarnation: number;
  revision: number;
  heartbeat_interval: number;
  heartbeat_timeout: number;
  health_subject: string | null;
  max_concurrency: number | null;
  claims: string[];
  canaries: Record<string, DeclaredCanary>;
  reserved: number;
  suspicion: number;
  /** The service that knows nothing of the registry, and was made this agent; its topics are reached by `endpoints`. */
  adopted?: { protocol: string; service: string; endpoints: Record<string, string> } | null;
  /** What its status rests on; only `registry.get` shows it. */
  evidence?: Fields | null;
}

/** Which agents to find, and in which order. */
export interface ServiceQuery {
  capabilities?: Iterable<string>;
  agent_type?: string;
  min_health_score?: number;
  max_load_factor?: number;
  tags?: Iterable<string>;
  /** Ids of skills that its A2A agent card must name. */
  skills?: Iterable<string>;
  limit?: number;
  sort_by?: "performance" | "health" | "load" | "random";
  version?: string;
  metadata?: Fields;
  prefer_tags?: Iterable<string>;
  exclude?: Iterable<string>;
  statuses?: Iterable<AgentStatus>;
  explain?: boolean;
  min_revision?: number;
}

/** The answer to a query. */
export interface Listing {
  agents: AgentInfo[];
  total: number;
  revision: number;
  near_misses?: { agent_id: string; reasons: string[] }[] | null;
}

/** The capabilities that a registry knows. */
export interface Vocabulary {
  capabilities: { name: string; agents: number; builtin: boolean }[];
  open: boolean;
}

/** The answer to a request for an assignment. */
export interface Grant {
  assignment_id: string;
  task_id: string;
  agent: AgentInfo;
  slots: number;
  fencing_token: number;
  assigned_at: number;
  expires_at: number;
  load_factor: number;
  load_age: number | null;
}

/** The assignments that live. */
export interface AssignmentListing {
  assignments: {
    assignment_id: string;
    task_id: string;
    agent_id: string;
    incarnation: number;
    slots: number;
    fencing_token: number;
    assigned_at: number;
    expires_at: number;
  }[];
  total: number;
}

/** The answer to a report of a problem. */
export interface ReportReceipt {
  agent_id: string;
  status: string;
  verdict: string;
  probed: boolean;
}

/** A capability's scaling policy. */
export interface ScalingPolicy {
  capability: string;
  min_agents: number;
  max_agents: number;
  high_load: number;
  low_load: number;
  health_degraded: number;
  source: string;
  [setting: string]: unknown;
}

/** An order to whoever starts and stops agents. */
export interface ScalingOrder {
  v: number;
  order_id: string;
  capability: string;
  action: "scale_up" | "scale_down" | "replace" | "rebalance";
  observed: Fields;
  desired: number;
  delta: number;
  agents: string[];
  reason: string;
  generation: number;
  attempt: number;
  issued_at: number;
  expires_at: number;
  epoch: number;
}

/** What the scaler sees and wants. */
export interface ScalingReport {
  enabled: boolean;
  capabilities: {
    capability: string;
    policy: ScalingPolicy;
    observed: Fields;
    desired: number;
    orders: ScalingOrder[];
    last_order: Fields | null;
    reason: string;
  }[];
}

/** Rules on what agents must not be together, and who breaks them now. */
export interface ConflictReport {
  rules: {
    name: string;
    kind: "combination" | "versions";
    action: "refuse" | "report";
    capabilities: string[] | null;
    agent_type: string | null;
    capability: string | null;
    versions: string[] | null;
    revision: number;
    violation: { agents: string[]; total: number; since: number | null } | null;
  }[];
  unreadable: string[];
}

/** A registration was refused for a claim or a rule; or agents break a rule, or no longer do. */
export interface ConflictEvent {
  v: number;
  event_id: string;
  kind: "claim" | "combination" | "versions";
  rule: string | null;
  claim: string | null;
  agents: string[];
  total: number;
  refused: boolean;
  resolved: boolean;
  message: string;
  epoch: number;
  at: number;
}

/** An agent's registration or status changed, and the change is durable. */
export interface StatusEvent {
  v: number;
  event_id: string;
  agent_id: string;
  agent_type: string;
  capabilities: string[];
  from: AgentStatus | null;
  to: AgentStatus;
  reason: string;
  note: string | null;
  removed: boolean;
  incarnation: number;
  revision: number;
  previous_revision: number;
  epoch: number | null;
  at: number;
}

/** Something happened to the registry itself. */
export interface RegistryEvent {
  v: number;
  event_id: string;
  what: string;
  replica: string;
  epoch: number;
  at: number;
  cause?: string | null;
}

/** An assignment ended otherwise than by its release. */
export interface AssignmentLost {
  v: number;
  event_id: string;
  what: string;
  assignment_id: string;
  task_id: string;
  agent_id: string;
  incarnation: number;
  slots: number;
  fencing_token: number;
  reason: string;
  at: number;
}
