// The lease keeper: facts and instants in, orders out.

import assert from "node:assert/strict";
import { test } from "node:test";
import * as errors from "../dist/errors.js";
import { CATCH_UP, EARLY_GAP, Lease, MISTAKEN_GAP } from "../dist/lease.js";

const INTERVAL = 30;
const STALE = new errors.StaleIncarnationError("replaced");
const GONE = new errors.NotFoundError("gone");
const WEATHER = [
  new errors.UnavailableError("away"),
  new errors.OverloadedError("full"),
  new errors.InternalError("bug"),
];

const newLease = (chance = 0.5) => new Lease(() => chance);
const tick = { fact: "tick" };
const connected = { fact: "connected" };
const register = [{ order: "register" }];
const granted = (incarnation, interval = INTERVAL) => ({ fact: "granted", incarnation, interval });
const failed = (grant, error) => ({ fact: "failed", grant, error });
const mistaken = (grant) => ({ fact: "mistaken", grant, error: STALE });
const answered = (grant, status, reserved = 0) => ({ fact: "answered", grant, status, reserved });
const beat = (grant, incarnation, seq) => [{ order: "beat", grant, incarnation, seq }];
const near = (one, other) => assert.ok(Math.abs(one - other) < 1e-9, `${one} is not ${other}`);

function held() {
  const lease = newLease();
  lease.handle(connected, 0);
  assert.deepEqual(lease.handle(tick, 0), register);
  assert.deepEqual(lease.handle(granted(1), 0), []);
  return lease;
}

test("it registers as soon as NATS is there", () => {
  const lease = newLease();
  assert.equal(lease.due, Infinity);
  assert.deepEqual(lease.handle(tick, 0), []);
  lease.handle(connected, 1);
  assert.deepEqual(lease.handle(tick, 1), register);
  assert.equal(lease.state, "registering");
  assert.equal(lease.due, Infinity);
});

test("the first beat comes soon, and the next ones within the interval", () => {
  const lease = held();
  near(lease.due, 0.5 * CATCH_UP);
  assert.deepEqual(lease.handle(tick, lease.due - 0.001), []);
  assert.deepEqual(lease.handle(tick, 0.5), beat(1, 1, 1));
  near(lease.due, 0.5 + INTERVAL * 0.95);
  assert.deepEqual(lease.handle(tick, lease.due), beat(1, 1, 2));
});

test("a registry that is away is asked again and again", () => {
  for (const error of WEATHER) {
    const lease = newLease();
    lease.handle(connected, 0);
    let now = 0;
    const waits = [];
    for (let n = 0; n < 20; n += 1) {
      assert.deepEqual(lease.handle(tick, now), register);
      assert.deepEqual(lease.handle({ fact: "refused", error }, now), []);
      waits.push(lease.due - now);
      now = lease.due;
    }
    assert.ok(waits.every((wait) => wait >= 0.1 && wait <= 5));
    assert.ok(waits.at(-1) > waits[0]);
  }
});

test("a refusal for good ends it", () => {
  for (const Kind of errors.ERRORS.values()) {
    const error = new Kind("no");
    if (WEATHER.some((each) => each.code === error.code)) continue;
    const lease = newLease();
    lease.handle(connected, 0);
    lease.handle(tick, 0);
    assert.deepEqual(lease.handle({ fact: "refused", error }, 0), [{ order: "end", error }]);
    assert.equal(lease.state, "ended");
    assert.deepEqual(lease.handle(tick, 1), []);
    assert.equal(lease.due, Infinity);
  }
});

test("an agent that the registry has forgotten registers again, and counts on", () => {
  const lease = held();
  lease.handle(tick, 1);
  assert.deepEqual(lease.handle(failed(1, GONE), 1.1), []);
  near(lease.due, 1.1 + 0.5 * CATCH_UP);
  assert.deepEqual(lease.handle(tick, lease.due), register);
  assert.deepEqual(lease.handle(failed(1, GONE), 1.9), [], "a second one asks for no second registration");
  lease.handle(granted(1), 2);
  assert.deepEqual(lease.handle(failed(1, STALE), 2.1), [], "an answer to a beat of an earlier registration");
  // The registry may remember the sequence of this incarnation: starting at 1 would be taken for old beats.
  assert.deepEqual(lease.handle(tick, lease.due), beat(2, 1, 2));
});

test("a replaced agent ends", () => {
  assert.deepEqual(held().handle(failed(1, STALE), 1), [{ order: "end", error: STALE }]);
});

test("one that is taken for its own successor registers again, but not over and over", () => {
  const lease = held();
  assert.deepEqual(lease.handle(mistaken(1), 1), []);
  assert.deepEqual(lease.handle(tick, lease.due), register);
  lease.handle(granted(2), 20);
  assert.deepEqual(lease.handle(mistaken(1), 20), [], "an answer to a beat of an earlier registration");
  assert.deepEqual(lease.handle(mistaken(2), 20 + MISTAKEN_GAP / 2), [{ order: "end", error: STALE }]);
});

test("the same mistake may come up another day", () => {
  const lease = held();
  for (const [n, now] of [100, 200, 300].entries()) {
    assert.deepEqual(lease.handle(mistaken(n + 1), now), []);
    lease.handle(tick, lease.due);
    lease.handle(granted(n + 2), now + 1);
  }
  assert.equal(lease.state, "held");
});

test("other troubles with beats are weather", () => {
  for (const error of [...WEATHER, new errors.ForbiddenError("x"), new errors.AlreadyRegisteredError("x")]) {
    const lease = held();
    lease.handle(tick, 1);
    const { due } = lease;
    assert.deepEqual(lease.handle(failed(1, error), 3), []);
    assert.deepEqual([lease.state, lease.due], ["held", due]);
  }
});

test("it does not beat while NATS is away, and soon after", () => {
  const lease = held();
  lease.handle(tick, 1);
  lease.handle({ fact: "disconnected" }, 2);
  assert.equal(lease.due, Infinity);
  assert.deepEqual(lease.handle(tick, 100), []);
  lease.handle(connected, 100);
  assert.ok(lease.due >= 100 && lease.due <= 100 + CATCH_UP);
  assert.deepEqual(lease.handle(tick, lease.due), beat(1, 1, 2));
});

test("news leave early, but not at any rate, and never later", () => {
  const lease = held();
  lease.handle(tick, 1);
  lease.handle({ fact: "moved" }, 1.01);
  near(lease.due, 1 + EARLY_GAP);
  lease.handle(tick, lease.due);
  lease.handle({ fact: "moved" }, 20);
  assert.equal(lease.due, 20);
  lease.handle(tick, 20);
  const { due } = lease;
  lease.handle({ fact: "moved" }, due - 0.001);
  assert.ok(lease.due <= due);
});

test("news do not hurry a registration", () => {
  const lease = newLease();
  lease.handle(connected, 0);
  lease.handle(tick, 0);
  lease.handle({ fact: "refused", error: WEATHER[0] }, 0);
  const { due } = lease;
  lease.handle({ fact: "moved" }, 0.01);
  assert.equal(lease.due, due);
});

test("a doubt brings a beat within a second", () => {
  const lease = held();
  lease.handle(tick, 1);
  lease.handle({ fact: "doubted" }, 10);
  assert.ok(lease.due >= 10 && lease.due <= 10 + CATCH_UP);
});

test("an order to drain that was lost is read from the status once, when nothing is reserved", () => {
  const lease = held();
  assert.deepEqual(lease.handle(answered(1, "active"), 1), []);
  assert.deepEqual(lease.handle(answered(1, "deregistering", 1), 1.5), []);
  assert.deepEqual(lease.handle(answered(1, "deregistering"), 2), [{ order: "drain" }]);
  assert.deepEqual(lease.handle(answered(1, "deregistering"), 3), []);
  assert.deepEqual(lease.handle(answered(7, "deregistering"), 3), []);
});

test("a leaving agent beats on, but does not come back", () => {
  const lease = held();
  lease.handle({ fact: "leaving" }, 1);
  assert.deepEqual(lease.handle(tick, lease.due), beat(1, 1, 1));
  assert.deepEqual(lease.handle(failed(1, GONE), 2), []);
  assert.equal(lease.state, "ended");
  for (const fact of [failed(1, GONE), mistaken(1)]) {
    const forgotten = held();
    forgotten.handle(fact, 1);
    forgotten.handle({ fact: "leaving" }, 1.1);
    assert.equal(forgotten.state, "ended");
  }
});

test("one that leaves while it registers learns the outcome, and asks no more", () => {
  for (const [fact, state] of [
    [granted(3), "held"],
    [{ fact: "refused", error: WEATHER[0] }, "ended"],
  ]) {
    const lease = newLease();
    lease.handle(connected, 0);
    lease.handle(tick, 0);
    lease.handle({ fact: "leaving" }, 1);
    assert.equal(lease.state, "registering");
    assert.deepEqual(lease.handle(fact, 2), []);
    assert.equal(lease.state, state);
  }
});

test("a lease given up is over", () => {
  const lease = held();
  lease.handle({ fact: "released" }, 1);
  assert.equal(lease.state, "ended");
  assert.deepEqual(lease.handle(tick, 1000), []);
});

test("uptime is the share of time registered and connected", () => {
  const lease = newLease();
  assert.equal(lease.uptime(0), undefined);
  lease.handle(connected, 0);
  lease.handle(tick, 0);
  lease.handle(granted(1), 100);
  assert.equal(lease.uptime(100), 100);
  near(lease.uptime(110), 100);
  lease.handle({ fact: "disconnected" }, 130);
  near(lease.uptime(160), 50);
  lease.handle(connected, 160);
  near(lease.uptime(220), 75);
});
