// Time, in seconds.

/** Seconds of a steady clock; only differences mean something. */
export function now(): number {
  return performance.now() / 1000;
}

/** Waits; an aborted wait ends early, and without an error. */
export function sleep(seconds: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal?.aborted) return resolve();
    const done = (): void => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, seconds * 1000);
    signal?.addEventListener("abort", done);
  });
}

/** Returns whether a promise was kept within so many seconds; if it was broken, that is raised. */
export async function within(seconds: number, promise: Promise<unknown>): Promise<boolean> {
  const over = new AbortController();
  try {
    return await Promise.race([promise.then(() => true), sleep(seconds, over.signal).then(() => false)]);
  } finally {
    over.abort();
  }
}
