// The thread in which a heart lives, so that a handler which blocks the work thread makes its agent busy, not dead.

import { parentPort, workerData } from "node:worker_threads";
import { Condition, Pulse, Reach } from "./condition.js";
import { Heart } from "./heart.js";
import type { HeartData, ToHeart, ToWork } from "./heart-thread.js";
import { MicroService } from "./micro.js";
import { Subjects } from "./protocol.js";
import { sleep } from "./time.js";
import { RegistryError } from "./errors.js";
import { Vitals } from "./vitals.js";

/** Seconds that a health function may take before the score it returned last is used. */
const PATIENCE = 1.0;

const port = parentPort;
if (port === null) throw new Error("heart-worker.js runs as a worker thread");
const data = workerData as HeartData;
const tell = (message: ToWork): void => port.postMessage(message);

let lastScore = 1;
let asking: { answered: Promise<void>; done: () => void } | undefined;

/** Returns what the application says of its health, without ever waiting long for it. */
async function score(): Promise<number> {
  if (asking === undefined) {
    let done = (): void => undefined;
    const answered = new Promise<void>((resolve) => (done = resolve));
    asking = { answered, done };
    tell({ what: "health" });
  }
  const over = new AbortController();
  await Promise.race([asking.answered, sleep(PATIENCE, over.signal)]).finally(() => over.abort());
  return lastScore;
}

const { registration } = data;
const vitals = new Vitals(data.maxConcurrency, data.topics, data.memory);
const pulse = new Pulse(() => tell({ what: "knock" }));
const reach = new Reach();
const condition = new Condition(vitals, pulse, reach, data.hasHealth ? score : undefined);
const service = new MicroService(
  String(registration["agent_id"]),
  String(registration["agent_type"]),
  String(registration["instance_id"]),
  data.version,
  vitals,
);
const heart = new Heart({
  registration,
  address: data.address,
  subjects: new Subjects(data.prefix),
  condition,
  pulse,
  reach,
  service,
  tell: (signal) => {
    if (signal.signal !== "ended") return tell({ what: "signal", signal });
    const { error } = signal;
    // A class does not survive the way between threads.
    tell({ what: "ended", body: error instanceof RegistryError ? error.toBody() : undefined, text: String(error) });
  },
  log: (level, text) => tell({ what: "log", level, text }),
});

port.on("message", (message: ToHeart) => {
  switch (message.what) {
    case "moved":
      return heart.note({ fact: "moved" });
    case "metrics":
      condition.metrics = message.metrics;
      return;
    case "lastError":
      service.lastErrors.set(message.topic, message.text);
      return;
    case "awake":
      return pulse.answer();
    case "score":
      lastScore = message.score ?? lastScore;
      asking?.done();
      asking = undefined;
      return;
    case "work":
      return reach.noteWork(message.connected);
    case "leave":
      return void heart.leave(message.announce).then(() => tell({ what: "done" }));
    case "release":
      return void heart.release(message.reason).then(() => tell({ what: "done" }));
    case "stop":
      return void heart.stop().then(() => {
        tell({ what: "done" });
        port.close();
      });
  }
});
await heart.start();
