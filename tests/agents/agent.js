// The agent of this suite, in TypeScript's SDK; `agent.py` is the same.

import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { pathToFileURL } from "node:url";

const { Agent, assignedWork, InvalidRequestError, isCanary } = await import(pathToFileURL(process.env.SDK).href);

const camel = (name) => name.replace(/_(.)/g, (_, letter) => letter.toUpperCase());
const camelled = (fields) => Object.fromEntries(Object.entries(fields).map(([name, value]) => [camel(name), value]));

const { canary, health, ...options } = JSON.parse(process.env.OPTIONS);
const agent = new Agent({ agentType: "test_agent", ...camelled(options) });

agent.handle("echo", (request) => request, canary === undefined ? {} : { canary });

agent.handle("hold", async ({ begun, until }) => {
  writeFileSync(begun, "");
  while (!existsSync(until)) await sleep(20);
  return "done";
});

agent.handle("block", ({ until }) => {
  const nothing = new Int32Array(new SharedArrayBuffer(4));
  while (!existsSync(until)) Atomics.wait(nothing, 0, 0, 20); // as a handler does that computes
  return "done";
});

agent.handle("refuse", () => {
  throw new InvalidRequestError("symbol: no price of DOGE is known");
});

agent.handle("fail", () => {
  throw new RangeError("secret");
});

agent.handle("work", () => {
  const assigned = assignedWork();
  const named = assigned === undefined ? null : [assigned.assignmentId, assigned.fencingToken];
  return { canary: isCanary(), assigned: named };
});

agent.handle("release", ({ assignment_id: assignmentId }) => agent.release(assignmentId));

agent.handle("report", (request) => agent.report(camelled(request)));

if (health !== undefined) agent.health(async () => Number(readFileSync(health, "utf8")));

await agent.run();
