// What an agent hears of the registry: health checks, the order to drain, what is announced of itself.

import type { Condition } from "./condition.js";
import type { Connection, Msg } from "./connection.js";
import type { Log } from "./log.js";
import type { MicroService } from "./micro.js";
import { agentTopic, DRAIN, encode, type Fields, HEALTH_CHECK, parse, type Subjects } from "./protocol.js";

/** Answers health checks, and tells the heart what else was heard. */
export class Ears {
  incarnation = 0;
  isLeaving = false;
  readonly #heard = new Set<string>();

  constructor(
    private readonly agentId: string,
    private readonly instanceId: string,
    private readonly subjects: Subjects,
    private readonly connection: Connection,
    private readonly condition: Condition,
    private readonly service: MicroService,
    private readonly onDrain: (reason: string, deadline: number | undefined) => void,
    private readonly onDoubt: () => void,
    private readonly log: Log,
  ) {}

  /** Hears from now on; throws `UnavailableError` if NATS is away. Called again, it goes on where it stopped. */
  async open(): Promise<void> {
    this.#hear(agentTopic(this.agentId, HEALTH_CHECK), (msg) => void this.#answer(msg));
    this.#hear(agentTopic(this.agentId, DRAIN), (msg) => this.#takeOrder(msg));
    // To hear at once of what the next answer to a beat would tell as well.
    this.#hear(this.subjects.statusOf(this.agentId), (msg) => this.#takeEvent(msg), true);
    for (const subject of this.service.subjects) {
      this.#hear(subject, (msg) => this.#reply(msg, this.service.respond(msg.subject)), true);
    }
    await this.connection.flush();
  }

  #hear(subject: string, callback: (msg: Msg) => void, optional = false): void {
    if (this.#heard.has(subject)) return;
    this.connection.subscribe(subject, callback, optional);
    this.#heard.add(subject);
  }

  async #answer(msg: Msg): Promise<void> {
    const answer = await this.condition.answer();
    const status = this.isLeaving ? { status: "draining" } : {};
    this.#reply(msg, { ...answer, instance_id: this.instanceId, incarnation: this.incarnation, ...status });
  }

  #reply(msg: Msg, answer: Fields | undefined): void {
    if (answer === undefined || !msg.reply) return;
    if (this.connection.isConnected) this.connection.publish(msg.reply, encode(answer));
    else this.log("info", `${msg.subject} is not answered: NATS is away`);
  }

  #takeOrder(msg: Msg): void {
    const { reason, deadline } = this.#object(msg);
    this.onDrain(String(reason ?? DRAIN), typeof deadline === "number" ? deadline : undefined);
  }

  /** Looks at what the registry announces of this agent; whether it concerns us, a beat finds out. */
  #takeEvent(msg: Msg): void {
    const event = this.#object(msg);
    if (event["incarnation"] !== this.incarnation || ["offline", "deregistering"].includes(String(event["to"]))) {
      this.onDoubt();
    }
  }

  /** Returns the JSON object of a message; an empty one if it has none, which is logged. */
  #object(msg: Msg): Fields {
    try {
      return parse(msg.data);
    } catch (error) {
      this.log("warning", `${msg.subject}: ${(error as Error).message}`);
      return {};
    }
  }
}
