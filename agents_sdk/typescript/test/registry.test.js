// The client and agents against a real registry, at NATS_URL. It may have agents and rules of others, which are let be.

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { after, afterEach, before, test } from "node:test";
import {
  Agent,
  AgentCallError,
  AlreadyRegisteredError,
  assignedWork,
  ClosedError,
  ConflictError,
  InvalidRequestError,
  NotBegunError,
  NotFoundError,
  RegistryClient,
  UnavailableError,
} from "@agent-registry/sdk";
import { Connection } from "../dist/connection.js";
import { Subjects } from "../dist/protocol.js";
import { Requester } from "../dist/requester.js";

const NATS_URL = process.env.NATS_URL;
const real = {
  skip: NATS_URL === undefined ? "there is no registry: NATS_URL does not say where" : false,
  timeout: 20_000,
};
const log = () => undefined;

let registry;
before(async () => {
  if (!real.skip) registry = await new RegistryClient({ timeout: 5, log }).connect();
});
after(() => registry?.close());

/** Undoes what a test did, the last thing first. */
const undo = [];
afterEach(async () => {
  const failures = [];
  for (const each of undo.splice(0).reverse()) await each().catch((error) => failures.push(error));
  if (failures.length > 0) throw new AggregateError(failures, `not undone: ${failures.join("; ")}`);
});

/** Returns an id, type or tag that nobody else has. Near misses are told in the order of ids: ours come first. */
const named = (what) => `0-${what}-${randomBytes(6).toString("hex")}`;

/** Returns a registration of a type and with a tag of its own. */
const trader = (agentId, further = {}) => ({
  agent_type: agentId,
  capabilities: ["trading"],
  tags: [agentId],
  agent_id: agentId,
  heartbeat_interval: 600,
  ...further,
});

/** Registers an agent, which is removed with the test. */
function register(registration) {
  undo.push(() => registry.deregister(registration.agent_id));
  return registry.register(registration);
}

/** Starts an agent of a type and with a tag of its own, which is stopped with the test. */
async function serving(agentId, options = {}, handlers = {}) {
  const itself = { agentType: agentId, capabilities: ["trading"], tags: [agentId], agentId, drainTimeout: 0.1, log };
  const agent = new Agent({ ...itself, ...options });
  for (const [topic, handler] of Object.entries(handlers)) agent.handle(topic, handler);
  undo.push(() => agent.stop());
  await agent.start();
  return agent;
}

/** Returns a client that is closed with the test, which ends what it watches. */
async function connected(options = {}) {
  const client = new RegistryClient({ timeout: 5, log, ...options });
  undo.push(() => client.close());
  return client.connect();
}

/** Returns a function that waits for the first event that is as wanted, of those from now on. */
async function hearing(kind) {
  const client = await connected();
  const events = client.events(kind);
  let next = events.next();
  next.catch(() => undefined); // nobody may be waiting for it any more
  await client.stats(); // NATS has heard of the subscription by then
  return async (wanted) => {
    for (;;) {
      const { value } = await next;
      next = events.next();
      next.catch(() => undefined);
      if (wanted(value)) return value;
    }
  };
}

test("what a vector refuses the registry refuses, in the same words", real, async () => {
  const connection = new Connection({ servers: [NATS_URL], timeout: 2 }, log);
  undo.push(() => connection.close());
  await connection.open(5);
  const requester = new Requester(connection, new Subjects(), 5);
  const vectors = JSON.parse(readFileSync(new URL("../../../tests/vectors/request.json", import.meta.url), "utf8"));
  for (const { name, operation, fields, error } of vectors.filter((each) => each.error)) {
    await assert.rejects(requester.ask(operation, fields), (thrown) => {
      assert.ok(thrown instanceof InvalidRequestError, `${name}: ${thrown}`);
      assert.deepEqual(
        thrown.details.map((each) => each.field),
        error.fields,
        name,
      );
      if (error.begins) assert.ok(thrown.message.startsWith(error.begins), thrown.message);
      else assert.equal(thrown.message, error.message);
      return true;
    });
  }
});

test("an agent is registered, found, and removed", real, async () => {
  const id = named("found");
  const receipt = await register(trader(id, { tags: [id, "crypto"], metadata: { exchange: id } }));
  assert.deepEqual([receipt.agent_id, receipt.incarnation, receipt.heartbeat_interval], [id, 1, 600]);
  await assert.rejects(registry.register(trader(id, { instance_id: "other" })), (error) => {
    assert.ok(error instanceof AlreadyRegisteredError);
    assert.deepEqual([error.code, error.status, error.retryable], ["already_registered", 409, false]);
    return true;
  });
  const query = { capabilities: new Set(["trading"]), tags: [id], metadata: { exchange: id } };
  const { agents, total } = await registry.discover(query);
  assert.deepEqual([agents.map((agent) => agent.agent_id), total], [[id], 1]);
  const { near_misses: misses } = await registry.discover({
    ...query,
    min_health_score: 1,
    version: ">=2",
    explain: true,
  });
  const ours = misses.filter((each) => each.agent_id === id);
  assert.deepEqual(ours, [{ agent_id: id, reasons: ["version is 1.0.0; wanted >=2"] }]);
  await registry.reportHealth(id, { health_score: 0.9, queue_depth: 2 });
  await registry.reportPerformance(id, { success_rate: 0.5 });
  const agent = await registry.get(id);
  assert.deepEqual(agent.performance_metrics, { queue_depth: 2, success_rate: 0.5 });
  assert.equal((await registry.reportProblem(id, "it is slow")).verdict, "alive");
  assert.equal(await registry.deregister(id, "done"), true);
  assert.equal(await registry.get(id), undefined);
  assert.equal(await registry.deregister(id), false);
  await assert.rejects(registry.reportHealth(id, { health_score: 1 }), NotFoundError);
});

test("an operator suspends, resumes, and drains", real, async () => {
  const id = named("operated");
  await register(trader(id));
  const suspended = await registry.suspend(id, "maintenance");
  assert.deepEqual([suspended.status, suspended.status_note], ["suspended", "maintenance"]);
  assert.equal((await registry.resume(id)).status, "active");
  assert.equal((await registry.drain(id)).status, "deregistering");
  await assert.rejects(registry.suspend(id), ConflictError);
});

test("the registry tells of itself", real, async () => {
  const { capabilities, open } = await registry.capabilities();
  assert.ok(capabilities.some((each) => each.name === "trading" && each.builtin));
  assert.equal(typeof open, "boolean");
  assert.equal(typeof (await registry.stats()).leader, "boolean");
  assert.equal((await registry.schema({ name: "Receipt" })).title, "Receipt");
});

test("how a capability is scaled is changed, told, and reset", real, async () => {
  const { capabilities } = await registry.capabilities();
  const reports = await Promise.all(capabilities.map(({ name }) => registry.scaling(name)));
  const ofEach = reports.flatMap((each) => each.capabilities);
  const { capability, policy } = ofEach.find((each) => each.policy.source === "default");
  undo.push(() => registry.setScaling(capability, { reset: true }));
  const changed = await registry.setScaling(capability, { order_timeout: 1234 });
  assert.equal(changed.capabilities[0].policy.order_timeout, 1234);
  assert.equal((await registry.scaling(capability)).capabilities[0].policy.source, "policy");
  const reset = await registry.setScaling(capability, { reset: true });
  assert.deepEqual(reset.capabilities[0].policy, policy);
});

test("a rule is set, keeps an agent away, and is told", real, async () => {
  const [name, type] = [named("rule"), named("type")];
  const rule = { kind: "versions", agent_type: type, versions: ["<2", ">=2"] };
  undo.push(() => registry.setConflict(name, { remove: true }));
  const { rules } = await registry.setConflict(name, rule);
  assert.deepEqual([rules[0].name, rules[0].action, rules[0].violation], [name, "refuse", null]);
  const heard = await hearing("conflict");
  await register(trader(named("old"), { agent_type: type }));
  await assert.rejects(register(trader(named("new"), { agent_type: type, version: "2.0.0" })), ConflictError);
  const { kind, event } = await heard((each) => each.event.rule === name);
  assert.deepEqual([kind, event.kind, event.rule, event.refused], ["conflict", "versions", name, true]);
  await registry.setConflict(name, { remove: true });
  assert.deepEqual((await registry.conflicts(name)).rules, []);
});

test("an agent is called by what it can do", real, async () => {
  const handlers = {
    quote: ({ symbol }) => ({ symbol, price: 42 }),
    refuse: () => {
      throw new InvalidRequestError("symbol: is required");
    },
  };
  const id = named("called");
  const agent = await serving(id, {}, handlers);
  const options = { query: { tags: [id] } };
  const soon = { ...options, timeout: 0.3 };
  assert.deepEqual(await registry.call("trading", "quote", { symbol: "BTC" }, options), { symbol: "BTC", price: 42 });
  assert.deepEqual(await agent.client.call("trading", "quote", {}, options), { price: 42 });
  await assert.rejects(registry.call("trading", "refuse", {}, options), (error) => {
    assert.ok(error instanceof AgentCallError);
    assert.deepEqual([error.agentId, error.code, error.status], [agent.agentId, "invalid_request", 400]);
    return true;
  });
  await assert.rejects(registry.call("trading", "nothing", {}, soon), /nobody listens/);
  await agent.stop();
  await assert.rejects(registry.call("trading", "quote", {}, soon), UnavailableError);
});

test("an agent is given to one task", real, async () => {
  const id = named("assigned");
  let begin;
  const begun = new Promise((resolve) => (begin = resolve));
  const held = (_, signal) => {
    begin();
    return new Promise((_, reject) => (signal.onabort = reject));
  };
  const handlers = { work: () => assignedWork(), held };
  const agent = await serving(id, { maxConcurrency: 2 }, handlers);
  const query = { capabilities: ["trading"], tags: [id] };
  const assignment = await registry.assign(query, { taskId: id, ttl: 30, slots: 2 });
  assert.deepEqual([assignment.agent.agent_id, assignment.taskId, assignment.slots], [id, id, 2]);
  assert.equal((await registry.assign(query, { taskId: id })).assignmentId, assignment.assignmentId);
  const itself = { assignmentId: assignment.assignmentId, fencingToken: assignment.fencingToken };
  assert.deepEqual(await assignment.call("work"), itself);
  await assert.rejects(registry.assign(query, { wait: 0.1 }), UnavailableError);
  await assert.rejects(registry.assign(query, { slots: 3 }), InvalidRequestError);
  const before = assignment.expiresAt;
  await assignment.renew(600);
  assert.ok(assignment.expiresAt > before + 500);
  assert.equal((await registry.assignments({ agent_id: id })).total, 1);
  assert.equal(await agent.release(assignment.assignmentId), true);
  assert.equal(await assignment.release(), false);
  await assert.rejects(assignment.renew(), NotFoundError);
  const stopped = assert.rejects(assignment.call("held"), AgentCallError);
  await begun;
  await agent.stop();
  await stopped;
  await assert.rejects(assignment.call("work"), NotBegunError);
});

test("agents are watched", real, async () => {
  const id = named("watched");
  const changes = (await connected()).watch({ capabilities: ["Trading"], tags: [id] });
  const snapshot = (await changes.next()).value;
  assert.deepEqual([snapshot.what, snapshot.agents], ["snapshot", []]);
  const watched = trader(id, { instance_id: "run-1" });
  await register(trader(named("other")));
  await register(watched);
  const joined = (await changes.next()).value;
  assert.deepEqual([joined.what, joined.agent.agent_id], ["joined", id]);
  await registry.register({ ...watched, version: "2.0.0" });
  const changed = (await changes.next()).value;
  assert.deepEqual([changed.what, changed.agent.version], ["changed", "2.0.0"]);
  await registry.suspend(id);
  assert.deepEqual((await changes.next()).value, { what: "left", agentId: id });
  await registry.resume(id);
  assert.equal((await changes.next()).value.what, "joined");
  await registry.deregister(id);
  assert.deepEqual((await changes.next()).value, { what: "left", agentId: id });
});

test("events are told as they happen", real, async () => {
  const id = named("told");
  await assert.rejects(registry.events("weather").next(), /kinds: 'weather' is none of status, scaling/);
  const heard = await hearing("status");
  await register(trader(id));
  const { kind, event } = await heard((each) => each.event.agent_id === id);
  assert.deepEqual([kind, event.from, event.to, event.reason], ["status", "registering", "active", "registered"]);
  await registry.deregister(id, "done");
  assert.equal((await heard((each) => each.event.agent_id === id && each.event.removed)).event.note, "done");
});

test("a client that is closed says so", real, async () => {
  const client = await connected();
  const events = client.events();
  const ended = assert.rejects(events.next(), ClosedError);
  await client.stats();
  await client.close();
  await ended;
  await assert.rejects(client.stats(), ClosedError);
});

test("nobody is there under another prefix", real, async () => {
  const client = await connected({ prefix: named("nowhere"), timeout: 0.3 });
  await assert.rejects(client.stats(), /UnavailableError: no registry serves 'stats' now/);
});
