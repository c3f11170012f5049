// The vectors that every SDK is tested with.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { headers as newHeaders } from "@nats-io/transport-node";
import { checkHeartbeat, checkRegistration } from "../dist/checks.js";
import { AgentCallError, errorFromBody, ERRORS, RegistryError } from "../dist/errors.js";
import { readEvent } from "../dist/events.js";
import { decodeReply, encode, parse, Subjects } from "../dist/protocol.js";
import { answerIn, didNotBegin } from "../dist/replies.js";

const vectors = (name) =>
  JSON.parse(readFileSync(new URL(`../../../tests/vectors/${name}.json`, import.meta.url), "utf8"));
const bytes = (text) => new TextEncoder().encode(text);
const subjects = new Subjects();

/** What an agent checks before it is sent; other requests are the registry's to refuse, see registry.test.js. */
const CHECKS = { register: checkRegistration, heartbeat: checkHeartbeat };

/** See that an error is what a vector says. */
function refused(error, wanted) {
  assert.ok(error instanceof RegistryError, error);
  assert.equal(error.code, wanted.code);
  assert.deepEqual(
    error.details.map((each) => each.field),
    wanted.fields,
  );
  if (wanted.begins) assert.ok(error.message.startsWith(wanted.begins), error.message);
  else assert.equal(error.message, wanted.message);
  return true;
}

for (const { name, operation, fields, subject, normal = fields, error } of vectors("request")) {
  test(`request: ${name}`, () => {
    assert.equal(subjects.operation(operation, fields), subject);
    assert.deepEqual(parse(bytes(encode(fields))), fields);
    const check = CHECKS[operation];
    if (check === undefined) return;
    if (error)
      assert.throws(
        () => check(fields),
        (thrown) => refused(thrown, error),
      );
    else assert.deepEqual(check(fields), normal);
  });
}

for (const { name, payload, error } of vectors("payload")) {
  test(`payload: ${name}`, () => {
    assert.throws(
      () => parse(bytes(payload)),
      (thrown) => refused(thrown, error),
    );
  });
}

for (const { name, reply, later } of vectors("reply")) {
  test(`reply: ${name}`, () => {
    assert.deepEqual(decodeReply(bytes(JSON.stringify({ ...reply, ...later }))), { ...reply, ...later });
  });
}

test("reply: what is none", () => {
  assert.throws(() => decodeReply(bytes("[1]")), /reply: must be a JSON object; is an array/);
});

const { errors, unknown, calls } = vectors("error");

for (const { name, class: className, body, headers } of errors) {
  test(`error: ${name}`, () => {
    assert.throws(
      () => decodeReply(bytes(JSON.stringify(body))),
      (error) => {
        assert.equal(error.name, className);
        assert.deepEqual(error.toBody(), body);
        assert.deepEqual(error.toHeaders(), headers);
        return true;
      },
    );
  });
}

test("error: there is one of every code", () => {
  assert.deepEqual(new Set(errors.map((each) => each.body.error.code)), new Set(ERRORS.keys()));
});

for (const { name, class: className, body, message, details } of unknown) {
  test(`error: ${name}`, () => {
    const error = errorFromBody(body);
    assert.equal(error.name, className);
    assert.equal(error.message, message);
    assert.deepEqual(error.details, details);
  });
}

for (const { name, headers, data, value, error } of calls) {
  test(`answer of an agent: ${name}`, () => {
    const said = newHeaders();
    for (const [key, each] of Object.entries(headers)) said.set(key, each);
    const reply = { data: bytes(data), headers: said };
    if (!error) return assert.deepEqual(answerIn("a", reply) ?? null, value);
    assert.throws(
      () => answerIn("a", reply),
      (thrown) => {
        assert.ok(thrown instanceof AgentCallError);
        const { code, status, said: message } = thrown;
        assert.deepEqual({ code, status, message, begun: !didNotBegin(thrown) }, error);
        return true;
      },
    );
  });
}

for (const { name, kind, subject, event, text } of vectors("event")) {
  test(`event: ${name}`, () => {
    const lines = [];
    const read = readEvent(subjects, subject, bytes(text ?? JSON.stringify(event)), (_, line) => lines.push(line));
    if (text) {
      assert.equal(read, undefined);
      assert.match(lines[0], /carries no event: payload: is not JSON/);
    } else assert.deepEqual(read, { kind: kind === "weather" ? "other" : kind, event });
  });
}
