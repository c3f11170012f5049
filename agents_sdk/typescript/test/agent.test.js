// What is wrong with an agent is said when it is written.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Agent, InvalidRequestError, UnavailableError } from "../dist/index.js";
import { Condition, OWN_METRICS, Pulse, Reach } from "../dist/condition.js";
import { metricsBetween, Vitals } from "../dist/vitals.js";
import { workOf } from "../dist/work.js";
import { Backoff } from "../dist/retry.js";
import { serverUrls } from "../dist/address.js";

const trader = { agentType: "trader", capabilities: ["trading"] };

for (const [options, named] of [
  [{ capabilities: [] }, "capabilities"],
  [{ capabilities: "trading" }, "capabilities"],
  [{ capabilities: undefined }, "capabilities"],
  [{ agentId: "a b" }, "agent_id"],
  [{ heartbeatInterval: 0 }, "heartbeat_interval"],
  [{ heartbeatInterval: NaN }, "heartbeat_interval"],
  [{ maxConcurrency: 0 }, "max_concurrency"],
  [{ metadata: { x: "y".repeat(20_000) } }, "metadata"],
  [{ metadata: ["a"] }, "metadata"],
  [{ claims: 5 }, "claims"],
  [{ drainTimeout: "x" }, "drain_timeout"],
  [{ drainTimeout: NaN }, "drain_timeout"],
  [{ nats: "nats://[::1" }, "nats"],
  [{ nats: " , " }, "nats"],
  [{ prefix: "a b" }, "prefix"],
  [{ capabilites: ["trading"] }, "capabilites"],
]) {
  test(`an agent with ${JSON.stringify(options).slice(0, 60)}`, () => {
    assert.throws(
      () => new Agent({ ...trader, ...options }),
      (error) => {
        assert.ok(error instanceof InvalidRequestError);
        assert.ok(error.message.startsWith(`${named}: `), error.message);
        return true;
      },
    );
  });
}

test("a password is in no error", () => {
  assert.throws(
    () => serverUrls("nats://user:hidden@[::1"),
    (error) => !error.message.includes("hidden"),
  );
});

test("an agent without an id takes the one that whoever started it gave, or makes one", () => {
  process.env.AGENT_REGISTRY_AGENT_ID = "trading-7-0";
  assert.equal(new Agent(trader).agentId, "trading-7-0");
  assert.equal(new Agent({ ...trader, agentId: "own" }).agentId, "own");
  process.env.AGENT_REGISTRY_AGENT_ID = "a b";
  assert.throws(() => new Agent(trader), /^InvalidRequestError: agent_id/);
  delete process.env.AGENT_REGISTRY_AGENT_ID;
  assert.match(new Agent({ ...trader, agentType: "my.type" }).agentId, /^my-type-[0-9a-f]{12}$/);
  assert.notEqual(new Agent(trader).agentId, new Agent(trader).agentId);
});

test("topics are subjects, the agent's own, and have one handler", () => {
  const agent = new Agent(trader).handle("quote", () => null);
  for (const topic of ["quote", "a b", "", "x.*", "x.>", "health_check", "drain", 7]) {
    assert.throws(() => agent.handle(topic, () => null), /^InvalidRequestError: topic: /);
  }
});

test("canaries are checked", () => {
  const agent = new Agent({ ...trader, capabilities: ["trading", "research"] });
  const declare = (topic, canary) => () => agent.handle(topic, () => null, { canary });
  assert.throws(declare("a", {}), /canary.capability: must be given, for the agent has several: research, trading/);
  assert.throws(declare("a", { capability: "charts" }), /canary.capability: must be one of the agent's/);
  assert.throws(declare("a", { capability: "trading", period: 0.5 }), /canaries.trading.period: must be at least 1/);
  declare("a", { capability: "Trading" })();
  assert.throws(declare("b", { capability: "trading" }), /'trading' has a canary already/);
});

test("what an agent reports is checked", () => {
  const agent = new Agent(trader);
  assert.throws(() => agent.report({ loadFactor: 2 }), /load_factor: must be at most 1; got 2/);
  const many = (count, prefix) => Object.fromEntries(Array.from({ length: count }, (_, n) => [`${prefix}${n}`, n]));
  agent.report({ metrics: many(64 - OWN_METRICS.length, "a") });
  assert.throws(() => agent.report({ metrics: many(1, "b") }), /metrics: must have 64 or fewer entries; has 65/);
});

test("an agent that was not started cannot be waited for, and stopping it is nothing", async () => {
  const agent = new Agent(trader);
  await assert.rejects(agent.wait(), /has not been started/);
  await agent.stop();
});

test("an agent that waits for NATS can be stopped", async (t) => {
  const lines = [];
  let waits;
  const waiting = new Promise((resolve) => (waits = resolve));
  const log = (_, line) => {
    lines.push(line);
    if (line.startsWith("waiting for NATS")) waits();
  };
  const agent = new Agent({ ...trader, nats: "nats://127.0.0.1:1", log });
  t.after(() => agent.stop());
  const started = agent.start();
  await waiting;
  await agent.stop();
  await started;
  assert.ok(lines.at(-1).endsWith(" has left"), lines.join("\n"));
  await assert.rejects(agent.start(), /has been started before/);
});

test("vitals count what the work thread does", () => {
  const work = new Vitals(2, ["quote"]);
  const heart = new Vitals(2, ["quote"], work.memory);
  assert.equal(heart.read().responseTime, undefined);
  assert.ok(work.begin(false) && work.begin(true));
  assert.equal(work.begin(false), false, "a canary is done like any other request");
  assert.equal(heart.read().loadFactor, 0.5, "but is no load");
  assert.deepEqual([work.moved(), work.moved()], [true, false], "says so once");
  work.endCanary();
  work.end("quote", 2, true);
  const first = heart.read();
  assert.deepEqual([first.served, first.failed, first.seconds, first.responseTime], [1, 1, 2, 2]);
  assert.deepEqual(heart.counts().get("quote"), { requests: 1, errors: 1, seconds: 2 });
  work.begin(false);
  work.end("quote", 1, false);
  assert.ok(Math.abs(heart.read().responseTime - 1.8) < 1e-9);
  const between = metricsBetween(heart.read(), first);
  assert.deepEqual(between, { requests_served: 2, avg_response_time: 1, success_rate: 1 });
  assert.deepEqual(metricsBetween(first, first), { requests_served: 1 });
  work.report(0.9, 0.7);
  assert.deepEqual([heart.read().loadFactor, heart.read().healthScore], [0.9, 0.7]);
});

test("an agent that can begin nothing counts as fully loaded", async (t) => {
  let time = 100_000;
  t.mock.method(performance, "now", () => time);
  const [pulse, reach] = [new Pulse(() => undefined), new Reach()];
  const condition = new Condition(new Vitals(2, []), pulse, reach, undefined);
  const told = async () => {
    const { status, load_factor: load } = await condition.answer();
    return [status, load, condition.isNews];
  };
  const idle = ["ok", 0, false];
  reach.note(true);
  assert.deepEqual(await told(), idle);
  pulse.knock();
  time += 1500;
  assert.deepEqual(await told(), ["busy", 1, true], "its thread does not answer");
  assert.equal((await condition.beat(99.12345)).fields.load_factor, 1);
  assert.equal(condition.isNews, false, "the beat has said so");
  pulse.answer();
  assert.deepEqual(await told(), ["busy", 1, false], "it was that late the last time");
  pulse.knock();
  pulse.answer();
  await condition.beat(undefined);
  reach.noteWork(false);
  time += 1500;
  assert.deepEqual(await told(), idle, "its work connection may be about to come back");
  time += 1000;
  assert.deepEqual(await told(), ["busy", 1, true], "requests do not reach it");
  reach.note(false);
  time += 5000;
  reach.note(true);
  assert.deepEqual(await told(), idle, "an outage takes both connections");
});

test("what an application reports stands in place of what is measured", async () => {
  const condition = new Condition(new Vitals(2, []), new Pulse(() => undefined), new Reach(), async () => 0.75);
  condition.metrics = { queue_depth: 3, uptime: 50 };
  const { fields } = await condition.beat(99.12345);
  const metrics = { requests_served: 0, work_loop_lag: 0, uptime: 50, queue_depth: 3 };
  assert.deepEqual(fields, { health_score: 0.75, load_factor: 0, metrics });
});

test("a request says what it is for", () => {
  const work = (pairs) => workOf({ get: (name) => pairs[name] ?? "" });
  assert.deepEqual(workOf(undefined), { isCanary: false, assigned: undefined });
  assert.equal(work({ "Registry-Canary": "1" }).isCanary, true);
  const token = (fencing) =>
    work({ "Agent-Registry-Assignment": "a-1", "Agent-Registry-Fencing-Token": fencing }).assigned;
  assert.deepEqual(token("7"), { assignmentId: "a-1", fencingToken: 7 });
  for (const none of ["", "-7", "1e3", "٧", "9".repeat(30)]) assert.equal(token(none).fencingToken, undefined, none);
});

test("waits double up to a ceiling, and begin again", () => {
  const backoff = new Backoff(0.1, 1, () => 1);
  const waits = [1, 2, 3, 4, 5].map(() => Number(backoff.next().toFixed(6)));
  assert.deepEqual(waits, [0.2, 0.4, 0.8, 1, 1]);
  backoff.reset();
  assert.equal(backoff.next(), 0.2);
  assert.ok(new UnavailableError("x").retryable);
});
