// The one job that every engine runs, so that all of them do the same work and can be checked in the same way.
//
// `count` steps in a row, each with a result of about 100 bytes; with a `key`, then a wait for the event `verified` of
// that key, and one more step. The result is the sum of what the steps returned: a step that was lost, run twice with
// another result, or given to the wrong run shows.

/** How often the functions of steps were entered in this process. */
export const entered = { steps: 0 };

/** What a process looks at from inside of the handler. */
export const hooks = {
  /** The handler is about to wait. */
  asks: (_key) => undefined,
  /** The step after the wait has begun. */
  resumed: (_key) => undefined,
  /** A step has begun. */
  step: (_index) => undefined,
};

const NOTE = 'a result as small as those of most steps: '.padEnd(64, '.');

export function work(index) {
  entered.steps++;
  hooks.step(index);
  return { n: index + 1, note: NOTE };
}

/**
 * @param run Runs a function as a step: `(name, fn) => Promise`.
 * @param wait Waits for the event: `(key) => Promise<payload>`.
 */
export async function journey({ count, key }, run, wait) {
  let sum = 0;
  for (let index = 0; index < count; index++) sum += (await run(`step-${index}`, () => work(index))).n;
  if (key === undefined) return sum;
  hooks.asks(key);
  const { bonus } = await wait(key);
  const last = await run('last', () => {
    hooks.resumed(key);
    return work(bonus - 1);
  });
  return sum + last.n;
}

export const sumOf = ({ count, key }, bonus = 7) => (count * (count + 1)) / 2 + (key === undefined ? 0 : bonus);
export const stepsOf = ({ count, key }) => count + (key === undefined ? 0 : 1);
