// Where NATS is, and as whom to connect.

import { readFileSync } from "node:fs";
import { type ConnectionOptions, credsAuthenticator } from "@nats-io/transport-node";
import { refusal } from "./errors.js";

const DEFAULT_URL = "nats://127.0.0.1:4222";

/** Milliseconds between two pings; with the client's own two minutes a half-open connection would go unseen. */
const PING_INTERVAL = 5_000;
const MAX_PINGS_OUT = 2;

/** Milliseconds before an attempt to reconnect, drawn anew each time: clients must not return as one. */
const RECONNECT_WAIT = [100, 500] as const;

export interface Address {
  servers: string[];
  /** What `nats server report connections` shows. */
  name?: string;
  /** NATS credentials file. */
  credentials?: string;
  /** First tokens of the subjects on which replies arrive. */
  inboxPrefix?: string;
  /** Seconds after which an attempt at one of the servers has failed. */
  timeout: number;
}

/** Returns the servers to use: those given, comma-separated, else those of `NATS_URL`, else this machine's. */
export function serverUrls(nats?: string): string[] {
  const given = nats || process.env["NATS_URL"] || DEFAULT_URL;
  const urls = given
    .split(",")
    .map((url) => url.trim())
    .filter(Boolean);
  if (urls.length === 0) throw refusal("nats", `'${given}' names no server`);
  for (const url of urls) {
    if (!URL.canParse(withScheme(url)) || !new URL(withScheme(url)).hostname) {
      throw refusal("nats", `'${withoutPassword(url)}' is not the URL of a NATS server, such as nats://host:4222`);
    }
  }
  return urls;
}

/** Returns the servers as people may see them. */
export function shownServers(address: Address): string {
  return address.servers.map(withoutPassword).join(", ");
}

/** Returns the options of the NATS client for an address; the client takes no user from a URL. */
export function optionsFor(address: Address): ConnectionOptions {
  const urls = address.servers.map((url) => new URL(withScheme(url)));
  const { username, password } = urls.find((url) => url.username) ?? { username: "", password: "" };
  const [user, pass] = [decodeURIComponent(username), decodeURIComponent(password)];
  return {
    servers: urls.map((url) => `${url.protocol}//${url.host}`),
    timeout: address.timeout * 1000,
    pingInterval: PING_INTERVAL,
    maxPingOut: MAX_PINGS_OUT,
    maxReconnectAttempts: -1,
    noAsyncTraces: true,
    reconnectDelayHandler: () => RECONNECT_WAIT[0] + Math.random() * (RECONNECT_WAIT[1] - RECONNECT_WAIT[0]),
    ...(address.name === undefined ? {} : { name: address.name }),
    ...(address.inboxPrefix === undefined ? {} : { inboxPrefix: address.inboxPrefix }),
    ...(address.credentials === undefined
      ? {}
      : { authenticator: credsAuthenticator(readFileSync(address.credentials)) }),
    ...(user === "" ? {} : pass === "" ? { token: user } : { user, pass }),
  };
}

function withScheme(url: string): string {
  return url.includes("://") ? url : `nats://${url}`;
}

function withoutPassword(url: string): string {
  const [scheme, rest] = url.includes("://") ? url.split("://", 2) : [undefined, url];
  const host = (rest ?? "").slice((rest ?? "").lastIndexOf("@") + 1);
  return scheme === undefined ? host : `${scheme}://${host}`;
}
