import type { StepContext } from 'stepfast';
import { read, write } from './storage.js';

/*
 * The world outside of stepfast: a pretend server with users, a mail service and a gate. It counts every call by itself,
 * so the numbers on the page are a witness that stepfast can not influence. Like a good server, it knows idempotency
 * keys: a call that is repeated with the same key is answered, and has no second effect.
 */

/** Long enough for a person to reload in the middle. */
const SLOW_MS = 1_600;

export interface Effect {
  /** How often the function of the step was entered. */
  readonly calls: number;
  /** How often it had an effect. */
  readonly done: number;
}

export interface Mail {
  readonly to: string;
  readonly name: string;
  readonly userId: string;
  /** Epoch milliseconds. */
  readonly at: number;
}

/** A function that is being called, for the progress bar. */
export interface Work {
  readonly step: string;
  readonly attempt: number;
  readonly from: number;
  readonly ms: number;
}

interface World {
  readonly effects: { readonly [runAndStep: string]: Effect };
  readonly keys: readonly string[];
  readonly mails: { readonly [runId: string]: Mail };
  readonly work: { readonly [runId: string]: Work };
}

const empty: World = { effects: {}, keys: [], mails: {}, work: {} };
const world = () => read<World>('world', empty);
const change = (update: (now: World) => Partial<World>) => write('world', { ...world(), ...update(world()) });

const none: Effect = { calls: 0, done: 0 };
const nameOf = (runId: string, step: string) => `${runId}/${step}`;

export const effectOf = (runId: string, step: string): Effect => world().effects[nameOf(runId, step)] ?? none;
export const mailOf = (runId: string): Mail | undefined => world().mails[runId];
export const workOf = (runId: string): Work | undefined => world().work[runId];

const pause = (ms: number, signal: AbortSignal) =>
  new Promise<void>((resolve, reject) => {
    const id = setTimeout(resolve, ms);
    signal.addEventListener('abort', () => {
      clearTimeout(id);
      reject(signal.reason);
    });
  });

/** One slow call to the server. */
async function call<T>(runId: string, step: string, context: StepContext, effect: () => Partial<World>, answer: T) {
  const { attempt, idempotencyKey, signal } = context;
  const name = nameOf(runId, step);
  const count = (seen: Partial<Effect>) => ({
    effects: { ...world().effects, [name]: { ...effectOf(runId, step), ...seen } },
  });
  change(({ work }) => ({
    ...count({ calls: effectOf(runId, step).calls + 1 }),
    work: { ...work, [runId]: { step, attempt, from: Date.now(), ms: SLOW_MS } },
  }));
  try {
    await pause(SLOW_MS, signal);
    change(({ keys }) => {
      if (keys.includes(idempotencyKey)) return {};
      return { ...effect(), ...count({ done: effectOf(runId, step).done + 1 }), keys: [...keys, idempotencyKey] };
    });
    return answer;
  } finally {
    change(({ work: { [runId]: _, ...others } }) => ({ work: others }));
  }
}

export const createUser = (runId: string, user: { id: string; name: string; email: string }, context: StepContext) =>
  call(runId, 'create-user', context, () => ({}), user);

export const sendVerificationEmail = (runId: string, mail: Omit<Mail, 'at'>, at: number, context: StepContext) =>
  call(
    runId,
    'send-verification-email',
    context,
    () => ({ mails: { ...world().mails, [runId]: { ...mail, at } } }),
    undefined,
  );

export const unlockAccount = (runId: string, context: StepContext) =>
  call(runId, 'unlock-account', context, () => ({}), undefined);
