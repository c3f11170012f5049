// The connection to NATS in trouble, with a server that does what a test wants.

import assert from "node:assert/strict";
import { createServer } from "node:net";
import { afterEach, test } from "node:test";
import { Connection, NoReplyError, NoRespondersError } from "../dist/connection.js";
import { ClosedError, ForbiddenError, PayloadTooLargeError, UnavailableError } from "../dist/errors.js";

const INFO = { server_id: "NABC", version: "2.12.0", proto: 1, headers: true, max_payload: 1024, client_id: 7 };
const log = () => undefined;
const open = [];

afterEach(async () => {
  for (const each of open.splice(0)) await each.close();
});

/** A NATS server; `on` is called with each line, and says what is written back. */
async function serve(on = () => "", port = 0, info = `INFO ${JSON.stringify(INFO)}\r\n`) {
  const lines = [];
  const sockets = new Set();
  let met;
  const isMet = new Promise((resolve) => (met = resolve));
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.write(info);
    met();
    socket.on("error", () => undefined);
    socket.on("data", (data) => {
      for (const line of data.toString().split("\r\n").filter(Boolean)) {
        lines.push(line);
        socket.write(on(line) || (line === "PING" ? "PONG\r\n" : ""));
      }
    });
  });
  await new Promise((resolve) => server.listen(port, "127.0.0.1", resolve));
  const close = async () => {
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => server.close(resolve));
  };
  const served = {
    lines,
    close,
    isMet,
    cut: () => sockets.forEach((socket) => socket.destroy()),
    port: server.address().port,
  };
  open.push(served);
  return served;
}

async function connected(port, user = "") {
  const connection = new Connection({ servers: [`nats://${user}127.0.0.1:${port}`], timeout: 1, name: "x" }, log);
  open.unshift(connection);
  await connection.open(0);
  return connection;
}

const changes = (connection) => {
  const waiting = [];
  connection.listen((is) => waiting.splice(0).forEach((resolve) => resolve(is)));
  return () => new Promise((resolve) => waiting.push(resolve));
};

test("it says who it is, and knows by what NATS knows it", async () => {
  const { port, lines } = await serve();
  const connection = await connected(port, "alice:s%40crt@");
  const said = JSON.parse(lines[0].slice("CONNECT ".length));
  assert.deepEqual([said.name, said.user, said.pass], ["x", "alice", "s@crt"]);
  assert.deepEqual(connection.place, { server_id: "NABC", client_id: 7 });
});

test("no server is there", async () => {
  const { port, close } = await serve();
  await close();
  await assert.rejects(connected(port, "alice:hidden@"), (error) => {
    assert.ok(error instanceof UnavailableError);
    assert.equal(error.message, `cannot reach NATS at nats://127.0.0.1:${port}: connection refused`);
    return true;
  });
});

test("a server refuses the user", async () => {
  const { port } = await serve((line) => (line.startsWith("CONNECT") ? "-ERR 'Authorization Violation'\r\n" : ""));
  await assert.rejects(connected(port), ForbiddenError);
});

test("a request is answered, refused, too large, or not answered", async () => {
  const { port } = await serve((line) => {
    const [, verb, subject, reply] = /^(H?PUB) (\S+) (\S+)/.exec(line) ?? [];
    if (verb === undefined) return "";
    if (subject === "denied") return `-ERR 'Permissions Violation for Publish to "denied"'\r\n`;
    if (subject === "nobody") return `HMSG ${reply} 1 16 16\r\nNATS/1.0 503\r\n\r\n\r\n`;
    return subject === "echo" ? `MSG ${reply} 1 2\r\n{}\r\n` : "";
  });
  const connection = await connected(port);
  assert.equal((await connection.request("echo", "{}", 2)).string(), "{}");
  await assert.rejects(connection.request("nobody", "", 2), NoRespondersError);
  await assert.rejects(connection.request("silence", "", 0.05), NoReplyError);
  await assert.rejects(connection.request("denied", "", 2), /NATS does not allow this user to publish to denied/);
  await assert.rejects(connection.request("large", "x".repeat(2000), 2), (error) => {
    assert.ok(error instanceof PayloadTooLargeError);
    assert.equal(error.message, "payload: 2000 bytes; this NATS server takes 1024");
    return true;
  });
});

test("replies that a user must not have are told", async () => {
  const { port } = await serve((line) => {
    const inbox = /^SUB (_INBOX\S+)/.exec(line)?.[1];
    return inbox ? `-ERR 'Permissions Violation for Subscription to "${inbox}"'\r\n` : "";
  });
  const connection = await connected(port);
  await assert.rejects(connection.request("x", "", 2), /does not allow this user replies on _INBOX.*set inboxPrefix/);
});

test("while NATS is away everything fails at once, and it comes back with its subscriptions", async () => {
  const first = await serve();
  const connection = await connected(first.port);
  const changed = changes(connection);
  const heard = new Promise((resolve) => connection.subscribe("news", (msg) => resolve(msg.string())));
  await connection.flush();
  const lost = changed();
  await first.close();
  assert.equal(await lost, false);
  assert.ok(connection.awaySince > 0);
  assert.equal(connection.place, undefined);
  assert.throws(() => connection.publish("x", "late"), UnavailableError);
  await assert.rejects(connection.request("x", "late", 5), /there is no connection to NATS/);
  const back = changed();
  const second = await serve((line) => {
    const sid = /^SUB news (\d+)/.exec(line)?.[1];
    return sid ? `MSG news ${sid} 2\r\nhi\r\n` : "";
  }, first.port);
  assert.equal(await back, true);
  assert.equal(await heard, "hi");
  assert.equal(second.lines.filter((line) => line.includes("late")).length, 0, "nothing was kept for later");
});

test("a client that has ended for good is replaced", async () => {
  let refuses = false;
  const { port, cut } = await serve((line) => {
    if (line.startsWith("CONNECT") && refuses) return "-ERR 'Authorization Violation'\r\n";
    const sid = /^SUB news (\d+)/.exec(line)?.[1];
    return sid ? `MSG news ${sid} 2\r\nhi\r\n` : "";
  });
  const lines = [];
  let ended;
  const hasEnded = new Promise((resolve) => (ended = resolve));
  const connection = new Connection({ servers: [`127.0.0.1:${port}`], timeout: 1 }, (_, line) => {
    lines.push(line);
    if (line.includes("has ended for good")) ended();
  });
  open.unshift(connection);
  await connection.open(0);
  let times = 0;
  connection.subscribe("news", () => (times += 1));
  await connection.flush();
  const changed = changes(connection);
  refuses = true;
  cut();
  await hasEnded;
  refuses = false;
  while (!connection.isConnected) await changed();
  await connection.flush();
  assert.equal(times, 2, lines.join("\n"));
});

test("closed, it stays closed", async () => {
  const { port } = await serve();
  const connection = await connected(port);
  const pending = assert.rejects(connection.request("x", "", 30), ClosedError);
  await connection.flush();
  await connection.close();
  await pending;
  assert.ok(connection.isClosed);
  assert.throws(() => connection.publish("x", ""), ClosedError);
  await assert.rejects(connection.open(1), ClosedError);
});

test("closed while it waits for a server, it says no more of that", async () => {
  const { port, isMet } = await serve(undefined, 0, ""); // which is silent
  const lines = [];
  const connection = new Connection({ servers: [`127.0.0.1:${port}`], timeout: 0.2 }, (_, line) => lines.push(line));
  open.unshift(connection);
  const ended = assert.rejects(connection.open(Infinity), ClosedError);
  await isMet;
  await connection.close();
  await ended;
  assert.deepEqual(lines, []);
});
