// Calling an agent by what it can do, with a NATS that answers as a test wants.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Assignment } from "../dist/assignment.js";
import { Caller } from "../dist/caller.js";
import { NoReplyError, NoRespondersError } from "../dist/connection.js";
import { refusalOf, topicOf } from "../dist/protocol.js";
import { AgentCallError, ClosedError, NotBegunError, UnavailableError } from "../dist/errors.js";

const agents = (...ids) => ids.map((id, n) => ({ agent_id: id, load_factor: n / 10, max_concurrency: 4 }));
const reply = (value) => ({ data: new TextEncoder().encode(JSON.stringify(value)) });
const refusing = (status, message) => ({
  data: new Uint8Array(),
  headers: { get: (name) => ({ "Nats-Service-Error-Code": status, "Nats-Service-Error": message })[name] ?? "" },
});

/** A caller whose agents answer as `answers` says; what it did is kept. */
function calling(answers, { listings = () => agents(...Object.keys(answers)), random = () => 0 } = {}) {
  const asked = [];
  const reported = [];
  let discovered = 0;
  const connection = {
    async request(subject, _body, within) {
      const agentId = subject.split(".")[1];
      asked.push(agentId);
      const answer = answers[agentId];
      const value = typeof answer === "function" ? await answer(within) : answer;
      if (value instanceof Error) throw value;
      return value;
    },
  };
  const discover = async () => {
    discovered += 1;
    const found = listings();
    if (found instanceof Error) throw found;
    return { agents: found, total: found.length, revision: 1 };
  };
  const caller = new Caller(connection, discover, (id, problem) => reported.push([id, problem]), random);
  const call = ({ topic = "quote", within = 0.3, atMostOnce = false } = {}) =>
    caller.call({ capabilities: ["trading"] }, topic, {}, within, atMostOnce);
  return { call, asked, reported, discovered: () => discovered };
}

test("the better of two is asked, and a listing serves for a while", async () => {
  const { call, asked, discovered } = calling({ a: reply(1), b: reply(2) });
  assert.equal(await call(), 1);
  assert.equal(await call(), 1);
  assert.deepEqual([asked, discovered()], [["a", "a"], 1]);
});

test("of two agents that are nearly equal either is asked", async () => {
  const pair = (loads) => loads.map((load, n) => ({ agent_id: "ab"[n], load_factor: load, max_concurrency: 4 }));
  const asks = async (drawn, ...loads) => {
    const { call, asked } = calling({ a: reply(1), b: reply(2) }, { listings: () => pair(loads), random: () => drawn });
    await call();
    return asked;
  };
  for (const loads of [
    [0.3, 0.32],
    [0.32, 0.3],
  ]) {
    assert.deepEqual([await asks(0, ...loads), await asks(0.9, ...loads)], [["a"], ["b"]]);
  }
  assert.deepEqual([await asks(0, 0.3, 0.33), await asks(0.9, 0.3, 0.33)], [["a"], ["a"]]);
});

test("a service that was adopted is reached on its own subjects", () => {
  const adopted = { protocol: "micro", service: "quotes", endpoints: { quote: "quotes.get" } };
  assert.equal(topicOf({ agent_id: "a", adopted }, "quote"), "quotes.get");
  assert.equal(topicOf({ agent_id: "a", adopted }, "other"), "agent.a.other");
  assert.equal(topicOf({ agent_id: "a", adopted: null }, "quote"), "agent.a.quote");
});

test("a prompt that is answered by a stream is not asked for, and others are tried", async () => {
  const adopted = { protocol: "synadia", service: "agents", endpoints: { prompt: "agents.prompt.code.ada.main" } };
  const streaming = { agent_id: "a", load_factor: 0, max_concurrency: 4, adopted };
  const reason = /prompts are answered by a stream; prompt it on agents\.prompt\.code\.ada\.main with a client of the /;
  const both = calling({ b: reply(2) }, { listings: () => [streaming, ...agents("b")] });
  assert.equal(await both.call({ topic: "prompt" }), 2);
  assert.deepEqual([both.asked, both.reported], [["b"], []]);
  const alone = calling({}, { listings: () => [streaming] });
  await assert.rejects(alone.call({ topic: "prompt", within: 0.1 }), (error) => {
    assert.ok(error instanceof UnavailableError);
    assert.match(error.message, reason);
    return true;
  });
  assert.deepEqual([alone.asked, alone.reported], [[], []]);
  const assignment = new Assignment({ agent: streaming }, 60, undefined, undefined);
  await assert.rejects(assignment.call("prompt"), (error) => {
    assert.ok(error instanceof NotBegunError);
    assert.match(error.message, reason);
    return true;
  });
  assert.equal(refusalOf(streaming, "status"), undefined, "its other topics have one answer");
  assert.equal(refusalOf({ ...streaming, adopted: { ...adopted, protocol: "micro" } }, "prompt"), undefined);
});

test("what was sent counts as load", async () => {
  let finish;
  const held = new Promise((resolve) => (finish = resolve));
  const { call, asked } = calling({ a: () => held.then(() => reply(1)), b: reply(2) });
  const first = call({ within: 5 });
  await new Promise(setImmediate);
  assert.equal(await call(), 2);
  finish();
  assert.equal(await first, 1);
  assert.deepEqual(asked, ["a", "b"]);
});

test("who is not there, busy or leaving is passed over, and the registry hears of the first", async () => {
  const answers = {
    a: new NoRespondersError(""),
    b: refusing("429", "busy"),
    c: refusing("503", "leaving"),
    d: reply(4),
  };
  const { call, asked, reported } = calling(answers);
  assert.equal(await call(), 4);
  assert.deepEqual(asked.sort(), ["a", "b", "c", "d"]);
  assert.deepEqual(reported, [["a", "quote: nobody listens"]]);
});

test("an error of the agent is final", async () => {
  const { call, asked } = calling({ a: refusing("400", "no such symbol"), b: reply(2) });
  await assert.rejects(call(), (error) => error instanceof AgentCallError && error.status === 400);
  assert.deepEqual(asked, ["a"]);
});

test("silence is tried elsewhere, unless it must not be done twice", async () => {
  const silent = async (within) => {
    await new Promise((resolve) => setTimeout(resolve, within * 1000));
    return new NoReplyError("");
  };
  const { call, reported } = calling({ a: silent, b: reply(2) });
  assert.equal(await call(), 2);
  assert.match(reported[0][1], /^quote: no answer within 0.15 s$/);
  const once = calling({ a: silent, b: reply(2) });
  await assert.rejects(once.call({ atMostOnce: true }), /a: no answer within 0.15 s; it may have begun/);
  assert.deepEqual(once.asked, ["a"]);
});

test("who does not answer is asked again when all have been", async () => {
  let times = 0;
  const flaky = () => (++times < 3 ? refusing("429", "busy") : reply("at last"));
  const { call, discovered } = calling({ a: flaky });
  assert.equal(await call({ within: 2 }), "at last");
  assert.ok(discovered() >= 1);
});

test("in the end it is told who failed and why", async () => {
  const { call } = calling({ a: new NoRespondersError(""), b: refusing("429", "busy") });
  const told = /^UnavailableError: no agent for trading did 'quote' within 0.1 s \(.*a: nobody listens.*\)$/;
  await assert.rejects(call({ within: 0.1 }), told);
  const nobody = calling({}, { listings: () => [] });
  await assert.rejects(nobody.call({ within: 0.1 }), /no agent found for trading within 0.1 s$/);
});

test("without a registry, whom it listed last is asked", async (t) => {
  let away = false;
  const { call } = calling({ a: reply(1) }, { listings: () => (away ? new UnavailableError("away") : agents("a")) });
  assert.equal(await call(), 1);
  away = true;
  const clock = performance.now.bind(performance);
  t.mock.method(performance, "now", () => clock() + 2000); // the listing is too old
  assert.equal(await call(), 1);
  const never = calling({ a: reply(1) }, { listings: () => new UnavailableError("away") });
  await assert.rejects(never.call({ within: 0.1 }), /\(agents cannot be found: away\)$/);
});

test("a closed client is not tried again", async () => {
  const { call, discovered } = calling({ a: reply(1) }, { listings: () => new ClosedError("closed") });
  await assert.rejects(call({ within: 5 }), ClosedError);
  assert.equal(discovered(), 1);
});
