// An agent written with the official NATS client and nothing of ours: the wire contract in subjects.md is enough.
//
//   agent-registry up          (in another terminal)
//   npm ci && node agent.js    (NATS_URL says where NATS is, AGENT_ID who this is)
//   nats req agent.node-agent.quote '{"symbol":"BTC"}'

import { randomUUID } from "node:crypto";
import { connect, headers } from "@nats-io/transport-node";

const agentId = process.env.AGENT_ID ?? "node-agent";
const instanceId = randomUUID(); // this life of the process: the registry knows us again by it
const beatEvery = Number(process.env.HEARTBEAT_INTERVAL ?? 5); // seconds
const maxConcurrency = 8;

const nc = await connect({
  servers: (process.env.NATS_URL ?? "nats://127.0.0.1:4222").split(","),
  name: `agent:${agentId}`, // for people who look at NATS
  waitOnFirstConnect: true,
  maxReconnectAttempts: -1,
  reconnectTimeWait: 250,
  pingInterval: 5_000,
});

// What this agent does: topic to handler. Requests and replies are JSON.
const handlers = {
  quote: async ({ symbol }) => ({ symbol, price: 42.0, from: `Node.js ${process.version}` }),
  health_check: async () => ({ status: "active", health_score: 1.0, load_factor: load() }),
};

const inFlight = new Set();
let served = 0;
let failed = 0;
let seq = 0; // counts on when we register again: a beat with an old number is not a sign of life
let incarnation; // given by the registry when we register
let listening = false;
let leaving = false;
let timer; // of the next heartbeat

const load = () => Math.min(1, inFlight.size / maxConcurrency);

// Hears requests and health checks, but not before the id is ours: to answer for an id whose holder is still to be judged
// would hide that he is gone.
async function listen() {
  if (listening) return;
  listening = true;
  for (const topic of Object.keys(handlers)) serve(topic);
  await nc.flush();
}

// Answers requests to agent.<id>.<topic>. Each runs on its own; the loop only hands them out.
async function serve(topic) {
  for await (const msg of nc.subscribe(`agent.${agentId}.${topic}`)) {
    const work = answer(topic, msg).finally(() => inFlight.delete(work));
    if (topic !== "health_check") inFlight.add(work);
  }
}

async function answer(topic, msg) {
  if (leaving && topic !== "health_check") return refuse(msg, 503, "unavailable", `${agentId} is leaving`);
  try {
    msg.respond(JSON.stringify(await handlers[topic](msg.data.length ? msg.json() : {})));
    if (topic !== "health_check") served += 1;
  } catch (error) {
    failed += 1;
    refuse(msg, 500, "internal", `${topic}: ${error.message}`);
  }
}

// Answers with an error: by its headers a caller knows it as one, and after a 503 asks another agent.
function refuse(msg, status, code, message) {
  const error = headers();
  error.set("Nats-Service-Error-Code", String(status));
  error.set("Nats-Service-Error", message.replace(/\s+/g, " "));
  const body = { error: { code, message, details: [], retryable: status === 503 } };
  msg.respond(JSON.stringify(body), { headers: error });
}

// Asks the registry. Its errors come as {"error": {...}}; what it does not answer at all is thrown by the client.
async function ask(operation, request = {}) {
  const reply = await nc.request(`registry.${operation}.${agentId}`, JSON.stringify(request), { timeout: 3_000 });
  const body = reply.json();
  if (body.error) throw Object.assign(new Error(body.error.message), body.error);
  return body;
}

async function register() {
  const receipt = await ask("register", {
    agent_type: "node_agent",
    capabilities: ["trading", "research"],
    instance_id: instanceId,
    version: "1.0.0",
    tags: ["node"],
    metadata: { runtime: process.version },
    heartbeat_interval: beatEvery,
    health_subject: `agent.${agentId}.health_check`,
    max_concurrency: maxConcurrency,
  });
  incarnation = receipt.incarnation;
  await listen();
  console.log(`registered ${agentId} as incarnation ${incarnation}`);
}

// Says that we are alive and how loaded we are. The registry's answers tell what to do when something is wrong.
async function beat() {
  try {
    if (incarnation === undefined) await register();
    const metrics = { requests_served: served, success_rate: served + failed ? served / (served + failed) : 1 };
    const ack = await ask("heartbeat", { incarnation, seq: ++seq, health_score: 1.0, load_factor: load(), metrics });
    if (ack.status === "deregistering") await leave("told to drain");
  } catch (error) {
    if (error.code === "not_found") incarnation = undefined; // forgotten: register again
    else if (isFinal(error)) await leave(error.message, false);
    else console.error(`no heartbeat: ${error.message}`); // NATS or the registry is away; the next one may get through
  }
  // One at a time: while NATS is away they would pile up, and all be sent at once when it is back.
  // A little early and at random, so that agents that started together drift apart.
  const wait = incarnation === undefined ? 500 + 500 * Math.random() : beatEvery * (1_000 - 100 * Math.random());
  if (!leaving) timer = setTimeout(beat, wait);
}

// Whether trying again is in vain: another instance has the id, or what we register is refused.
function isFinal(error) {
  if (error.code === "stale_incarnation") return true;
  return incarnation === undefined && error.retryable === false && error.code !== "internal";
}

// Takes no new work, finishes what is in flight, says goodbye; but not when the id belongs to another instance by now.
async function leave(why, goodbye = true) {
  if (leaving) return;
  leaving = true;
  clearTimeout(timer);
  console.log(`leaving: ${why}`);
  const tell = (operation) => ask(operation).catch((error) => console.error(`${operation}: ${error.message}`));
  if (goodbye) await tell("drain"); // from here on nobody finds us
  await Promise.allSettled(inFlight);
  if (goodbye) await tell("deregister");
  await nc.drain();
  console.log("left");
}

for (const signal of ["SIGTERM", "SIGINT"]) process.on(signal, () => leave(signal));
await beat();
