// How long to wait before trying again.

/** Waits that double up to a ceiling, each drawn at random: who failed together returns apart. Seconds. */
export class Backoff {
  #top: number;

  constructor(
    private readonly floor = 0.02,
    private readonly ceiling = 0.5,
    private readonly random: () => number = Math.random,
  ) {
    this.#top = floor;
  }

  /** Returns the next wait, drawn from the floor to a bound that doubles each time. */
  next(): number {
    this.#top = Math.min(this.ceiling, this.#top * 2);
    return this.floor + this.random() * (this.#top - this.floor);
  }

  /** Begins again with short waits: it worked. */
  reset(): void {
    this.#top = this.floor;
  }
}
