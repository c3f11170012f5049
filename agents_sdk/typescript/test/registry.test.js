// The client and agents against a real registry, at NATS_URL.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";
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
const skip = NATS_URL === undefined ? "there is no registry: NATS_URL does not say where" : false;
const log = () => undefined;

let registry;
before(async () => {
  if (!skip) registry = await new RegistryClient({ timeout: 5, log }).connect();
});
after(() => registry?.close());

let made = 0;
const named = (what) => `${what}-${process.pid}-${(made += 1)}`;
const trader = (agentId, further = {}) => ({
  agent_type: "trader",
  capabilities: ["trading"],
  agent_id: agentId,
  heartbeat_interval: 600,
  ...further,
});

async function serving(agentId, options = {}, handlers = {}) {
  const agent = new Agent({ agentType: "trader", capabilities: ["trading"], agentId, log, ...options });
  for (const [topic, handler] of Object.entries(handlers)) agent.handle(topic, handler);
  await agent.start();
  return agent;
}

/** Returns the first item of an iterator that is as wanted. */
async function first(iterator, wanted) {
  for (let next = await iterator.next(); !next.done; next = await iterator.next()) {
    if (wanted(next.value)) return next.value;
  }
  throw new Error("it has ended");
}

test("what a vector refuses the registry refuses, in the same words", { skip }, async () => {
  const connection = new Connection({ servers: [NATS_URL], timeout: 2 }, log);
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
  await connection.close();
});

test("an agent is registered, found, and removed", { skip }, async () => {
  const id = named("found");
  const receipt = await registry.register(trader(id, { tags: ["crypto"], metadata: { exchange: id } }));
  assert.deepEqual([receipt.agent_id, receipt.incarnation, receipt.heartbeat_interval], [id, 1, 600]);
  await assert.rejects(registry.register(trader(id, { instance_id: "other" })), (error) => {
    assert.ok(error instanceof AlreadyRegisteredError);
    assert.deepEqual([error.code, error.status, error.retryable], ["already_registered", 409, false]);
    return true;
  });
  const query = { capabilities: new Set(["trading"]), tags: ["crypto"], metadata: { exchange: id } };
  const { agents, total } = await registry.discover(query);
  assert.deepEqual([agents.map((agent) => agent.agent_id), total], [[id], 1]);
  const { near_misses: misses } = await registry.discover({
    ...query,
    min_health_score: 1,
    version: ">=2",
    explain: true,
  });
  assert.deepEqual(misses, [{ agent_id: id, reasons: ["version is 1.0.0; wanted >=2"] }]);
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

test("an operator suspends, resumes, and drains", { skip }, async () => {
  const id = named("operated");
  await registry.register(trader(id));
  const suspended = await registry.suspend(id, "maintenance");
  assert.deepEqual([suspended.status, suspended.status_note], ["suspended", "maintenance"]);
  assert.equal((await registry.resume(id)).status, "active");
  assert.equal((await registry.drain(id)).status, "deregistering");
  await assert.rejects(registry.suspend(id), ConflictError);
  await registry.deregister(id);
});

test("the registry tells of itself", { skip }, async () => {
  const { capabilities, open } = await registry.capabilities();
  assert.ok(capabilities.some((each) => each.name === "trading" && each.builtin));
  assert.equal(open, false);
  assert.equal((await registry.stats()).leader, true);
  assert.equal((await registry.schema({ name: "Receipt" })).title, "Receipt");
  const changed = await registry.setScaling("whale_tracking", { min_agents: 0, max_agents: 3 });
  assert.equal(changed.capabilities[0].policy.max_agents, 3);
  assert.equal((await registry.scaling("whale_tracking")).capabilities[0].policy.source, "policy");
  const reset = await registry.setScaling("whale_tracking", { reset: true });
  assert.equal(reset.capabilities[0].policy.source, "default");
});

test("a rule is set, keeps an agent away, and is told", { skip }, async () => {
  const rule = { kind: "combination", capabilities: ["news_analysis", "chart_analysis"] };
  const { rules } = await registry.setConflict("not-both", rule);
  assert.deepEqual([rules[0].name, rules[0].action, rules[0].violation], ["not-both", "refuse", null]);
  const events = registry.events("conflict");
  const coming = events.next();
  const both = trader(named("both"), { capabilities: rule.capabilities });
  await assert.rejects(registry.register(both), ConflictError);
  const { kind, event } = (await coming).value;
  assert.deepEqual([kind, event.kind, event.rule, event.refused], ["conflict", "combination", "not-both", true]);
  await events.return();
  await registry.setConflict("not-both", { remove: true });
  assert.deepEqual((await registry.conflicts()).rules, []);
});

test("an agent is called by what it can do", { skip }, async () => {
  const handlers = {
    quote: ({ symbol }) => ({ symbol, price: 42 }),
    refuse: () => {
      throw new InvalidRequestError("symbol: is required");
    },
  };
  const agent = await serving(named("called"), { capabilities: ["execution"] }, handlers);
  assert.deepEqual(await registry.call("execution", "quote", { symbol: "BTC" }), { symbol: "BTC", price: 42 });
  assert.deepEqual(await agent.client.call("execution", "quote"), { price: 42 });
  await assert.rejects(registry.call("execution", "refuse"), (error) => {
    assert.ok(error instanceof AgentCallError);
    assert.deepEqual([error.agentId, error.code, error.status], [agent.agentId, "invalid_request", 400]);
    return true;
  });
  await assert.rejects(registry.call("execution", "nothing", {}, { timeout: 0.3 }), /nobody listens/);
  await agent.stop();
  await assert.rejects(registry.call("execution", "quote", {}, { timeout: 0.3 }), UnavailableError);
});

test("an agent is given to one task", { skip }, async () => {
  const id = named("assigned");
  let begin;
  const begun = new Promise((resolve) => (begin = resolve));
  const held = (_, signal) => {
    begin();
    return new Promise((_, reject) => (signal.onabort = reject));
  };
  const handlers = { work: () => assignedWork(), held };
  const agent = await serving(id, { capabilities: ["research"], maxConcurrency: 2, drainTimeout: 0.1 }, handlers);
  const query = { capabilities: ["research"] };
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

test("agents are watched", { skip }, async () => {
  const id = named("watched");
  const changes = registry.watch({ capabilities: ["Backtesting"], tags: ["x"] });
  const snapshot = (await changes.next()).value;
  assert.deepEqual([snapshot.what, snapshot.agents], ["snapshot", []]);
  const backtester = trader(id, { capabilities: ["backtesting"], tags: ["x"], instance_id: "run-1" });
  await registry.register(trader(named("other"), { capabilities: ["backtesting"], heartbeat_timeout: 600 }));
  await registry.register(backtester);
  const joined = (await changes.next()).value;
  assert.deepEqual([joined.what, joined.agent.agent_id], ["joined", id]);
  await registry.register({ ...backtester, version: "2.0.0" });
  const changed = (await changes.next()).value;
  assert.deepEqual([changed.what, changed.agent.version], ["changed", "2.0.0"]);
  await registry.suspend(id);
  assert.deepEqual((await changes.next()).value, { what: "left", agentId: id });
  await registry.resume(id);
  assert.equal((await changes.next()).value.what, "joined");
  await registry.deregister(id);
  assert.deepEqual((await changes.next()).value, { what: "left", agentId: id });
  await changes.return();
});

test("events are told as they happen", { skip }, async () => {
  const id = named("told");
  await assert.rejects(registry.events("weather").next(), /kinds: 'weather' is none of status, scaling/);
  const events = registry.events("status");
  const coming = first(events, ({ event }) => event.agent_id === id);
  await registry.register(trader(id));
  const { kind, event } = await coming;
  assert.deepEqual([kind, event.from, event.to, event.reason], ["status", "registering", "active", "registered"]);
  const going = first(events, (each) => each.event.agent_id === id && each.event.removed);
  await registry.deregister(id, "done");
  assert.equal((await going).event.note, "done");
  await events.return();
});

test("a client that is closed says so", { skip }, async () => {
  const client = await new RegistryClient({ log }).connect();
  const events = client.events();
  const ended = assert.rejects(events.next(), ClosedError);
  await client.stats();
  await client.close();
  await ended;
  await assert.rejects(client.stats(), ClosedError);
});

test("nobody is there under another prefix", { skip }, async () => {
  const client = await new RegistryClient({ prefix: "nowhere", timeout: 0.3, log }).connect();
  await assert.rejects(client.stats(), /UnavailableError: no registry serves 'stats' now/);
  await client.close();
});
