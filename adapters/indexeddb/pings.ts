/*
 * Whether an owner that holds its lock, or has held its lease until lately, can do anything. One that is frozen can not:
 * a worker of a frozen page, a tab that the system has put to sleep without a word, a page that computes without end.
 *
 * G1. Asked about is only who leaves due work alone. Nobody answers for another, and there is nothing to answer with but
 *     a message: whoever can send it can also go on with its runs.
 * G2. Silent is who left three questions unanswered. They are counted, not the time: a context that was asleep itself
 *     must not take that for the silence of the others.
 * G3. Whoever is wrongly taken for silent loses its runs to a higher fence, as after any takeover: no more.
 */

/** Who asks for this asks everybody. */
const ANYBODY = '*';

/** How long a question is open before it counts as unanswered. */
const ANSWER_MS = 2_000;
const MAX_UNANSWERED = 3;

export interface Pings {
  /** Asks for a sign of life, unless a question is open. True: the owner has left too many unanswered. */
  isSilent(owner: string): boolean;
  /** Asks everybody, once. */
  greet(): void;
  /** A message of another context: a question for us, or an answer. Gives the owner who has answered. */
  hear(message: unknown, me: string | undefined): string | undefined;
}

export function pings(post: (message: { readonly ask: string } | { readonly here: string }) => void): Pings {
  const open = new Map<string, { unanswered: number; askedAt: number }>();
  return {
    isSilent(owner) {
      const now = performance.now();
      const asked = open.get(owner);
      if (asked && now - asked.askedAt < ANSWER_MS) return asked.unanswered >= MAX_UNANSWERED;
      const unanswered = asked ? asked.unanswered + 1 : 0;
      open.set(owner, { unanswered, askedAt: now });
      post({ ask: owner });
      return unanswered >= MAX_UNANSWERED;
    },
    greet: () => post({ ask: ANYBODY }),
    hear(message, me) {
      const { ask, here } = (message ?? {}) as { readonly ask?: unknown; readonly here?: unknown };
      if (me !== undefined && (ask === me || ask === ANYBODY)) post({ here: me });
      if (typeof here !== 'string') return undefined;
      open.delete(here);
      return here;
    },
  };
}
