import { MessageChannel as NodeChannel, Worker as NodeWorker, parentPort } from 'node:worker_threads';
import { z } from 'zod';
import { type BridgePort, connectStepfast, serveStepfast } from '../plugins/bridge/index.js';
import {
  createStepfast,
  type Duration,
  defineEvent,
  defineJob,
  type EventType,
  type Handler,
  type Job,
  type JobOptions,
  type Lock,
  type Plugin,
  type ReceivedEvent,
  type RunHandle,
  type RunSnapshot,
  type StandardSchema,
  type Step,
  type Stepfast,
  type StepfastError,
  type Store,
  type TimedOut,
  type WaitOptions,
} from '../src/index.js';

import { crashEverywhere, testRun } from '../src/testing/index.js';

/*
 * What must and what must not compile. Never run: `types.test.ts` hands this file to the compiler. An `@ts-expect-error`
 * that is not needed is an error, so each of them is a test that can fail.
 */

type IsAny<T> = 0 extends 1 & T ? true : false;
type IsExactly<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
declare function expectType<Expected>(): <Actual>(
  value: Actual,
  ...proof: IsAny<Actual> extends true
    ? ['any has leaked']
    : IsExactly<Actual, Expected> extends true
      ? []
      : ['not the expected type', Actual]
) => void;

declare const stepfast: Stepfast;
declare const step: Step;
declare const store: Store;

// ---- the tester itself can fail

const leaked = JSON.parse('null');
// @ts-expect-error any is found
expectType<string>()(leaked);
// @ts-expect-error another type is found
expectType<string>()(1 as number);

// ---- job<Payload>(name, handler), as in spec section 0

export const onboarding = stepfast.job<{ userId: string; email: string }>(
  'onboarding',
  async ({ payload, step, run }) => {
    expectType<{ userId: string; email: string }>()(payload);
    expectType<string>()(run.id);
    const user = await step.run('create', () => ({ id: payload.userId, roles: ['admin'] as const }));
    expectType<{ id: string; roles: readonly ['admin'] }>()(user);
    const event = await step.waitForEvent<{ userId: string }>('email.verified', { timeout: '24h', onTimeout: 'fail' });
    expectType<ReceivedEvent<{ userId: string }>>()(event);
    expectType<string>()(event.payload.userId);
    expectType<false>()(event.timedOut);
    // @ts-expect-error the payload has no such field
    event.payload.userID;
    // @ts-expect-error neither has the job's
    payload.mail;
    return { onboarded: true };
  },
);
expectType<Promise<RunHandle<unknown>>>()(stepfast.start(onboarding, { userId: '42', email: 'a@example.com' }));
// @ts-expect-error a field is missing
void stepfast.start(onboarding, { userId: '42' });
// @ts-expect-error a field has the wrong type
void stepfast.start(onboarding, { userId: 42, email: 'a@example.com' });
// @ts-expect-error the payload is not optional
void stepfast.start(onboarding);

// ---- job(name, options, handler) infers payload and result from the schemas

export const typed = stepfast.job(
  'typed',
  {
    payload: z.object({ at: z.string().transform((text) => new Date(text)), size: z.number().default(1) }),
    result: z.object({ done: z.boolean() }),
  },
  async ({ payload }) => {
    expectType<{ at: Date; size: number }>()(payload);
    return { done: payload.size > 0 };
  },
);
async function resultOfTyped(handle: RunHandle<{ done: boolean }>) {
  expectType<{ done: boolean }>()(await handle.result());
}
// A start is given what the schema takes; the handler gets what the schema makes of it.
void stepfast.start(typed, { at: '2026-01-01' }).then(resultOfTyped);
void stepfast.start(typed, { at: '2026-01-01', size: 1 });
// @ts-expect-error a text, of which the schema makes a date
void stepfast.start(typed, { at: new Date(0) });
stepfast.job('parent of typed', async ({ step }) => {
  expectType<{ done: boolean }>()(await step.call(typed, { at: '2026-01-01' }));
  // @ts-expect-error a text, of which the schema makes a date
  await step.call(typed, { at: new Date(0), size: 1 });
});
// A schema that takes anything, and says so, is given anything.
export const coerced = stepfast.job('coerced', { payload: z.coerce.number() }, async ({ payload, step }) => {
  expectType<number>()(payload);
  expectType<number>()(await step.call(coercedText, 5));
});
export const coercedText = defineJob(
  'text',
  { payload: z.preprocess(String, z.string()) },
  ({ payload }) => payload.length,
);
void stepfast.start(coerced, '5');
void stepfast.schedule('coerced', { every: '1h' }, coerced, '5');
// One that does not say what it takes is given what it makes.
declare const silent: { readonly '~standard': Omit<StandardSchema<number>['~standard'], 'types'> };
export const unsaid = stepfast.job('unsaid', { payload: silent }, async ({ payload }) => {
  expectType<number>()(payload);
});
void stepfast.start(unsaid, 5);
// @ts-expect-error it makes a number
void stepfast.start(unsaid, '5');
declare const numbers: StandardSchema<number>;
export const saidAll = stepfast.job(
  'by name',
  { payload: numbers, result: z.coerce.date() },
  async ({ payload, step }) => {
    expectType<number>()(payload);
    const { payload: at } = await step.waitForEvent('at', { schema: z.string().transform((text) => new Date(text)) });
    expectType<Date>()(at);
    return at;
  },
);
// @ts-expect-error it takes what it makes, as nothing else is said
void stepfast.start(saidAll, '5');
// @ts-expect-error the result does not fit its schema
stepfast.job('wrong', { result: z.object({ done: z.boolean() }) }, async () => ({ done: 'yes' }));

// ---- job(name, options, handler) infers the result of the handler where there is no schema

export const counted = stepfast.job('counted', { payload: z.object({ n: z.number() }) }, async ({ payload, step }) =>
  step.run('double', () => payload.n * 2),
);
expectType<Job<{ n: number }, number>>()(counted);
async function resultOfCounted() {
  const handle = await stepfast.start(counted, { n: 1 });
  expectType<RunHandle<number>>()(handle);
  expectType<number>()(await handle.result());
  handle.subscribe((snapshot) => {
    expectType<RunSnapshot<number>>()(snapshot);
    expectType<number | undefined>()(snapshot.result);
  });
}
void resultOfCounted;

// ---- a job without a payload starts without one; its result is inferred

export const plain = stepfast.job('plain', async ({ payload }) => {
  expectType<undefined>()(payload);
  return 'text';
});
async function resultOfPlain() {
  const handle = await stepfast.start(plain);
  expectType<string>()(await handle.result());
  // @ts-expect-error it takes none
  await stepfast.start(plain, { some: 'payload' });
}
void resultOfPlain;

export const elsewhere = defineJob('elsewhere', { payload: z.object({ n: z.number() }) }, ({ payload }) => payload.n);
expectType<Job<{ n: number }, number>>()(elsewhere);
stepfast.register(elsewhere);
stepfast.register(onboarding, { replace: true });

// ---- by name nothing is known, and nothing is `any`

async function byName() {
  const handle = await stepfast.start('somewhere', { whatever: 1 });
  expectType<RunHandle<unknown>>()(handle);
  expectType<unknown>()(await handle.result());
  const snapshot = (await stepfast.runs.get('r'))!;
  expectType<unknown>()(snapshot.payload);
  expectType<unknown>()(snapshot.result);
  expectType<string | number | undefined>()(snapshot.error?.code);
  const [entry] = await stepfast.runs.timeline('r');
  expectType<unknown>()(entry!.value);
}
void byName;

// ---- steps

async function steps() {
  expectType<number>()(await step.run('sync', () => 1));
  expectType<number>()(await step.run('async', async () => 1));
  expectType<undefined>()(await step.run('nothing', () => void step));
  expectType<undefined>()(await step.run('undefined', () => undefined));
  expectType<'a' | 'b'>()(await step.run('union', (): 'a' | 'b' => 'a'));
  expectType<{ id: string } | null>()(await step.run('maybe', async (): Promise<{ id: string } | null> => null));
  await step.run('context', ({ attempt, idempotencyKey, signal, ...rest }) => {
    expectType<number>()(attempt);
    expectType<string>()(idempotencyKey);
    expectType<AbortSignal>()(signal);
    // @ts-expect-error there is no such thing
    rest.nothing;
  });
  expectType<void>()(await step.sleep('nap', '1h'));
  expectType<void>()(await step.sleepUntil('later', new Date(0)));
  // @ts-expect-error a step has a name
  await step.run(() => 1);
  // @ts-expect-error a step has a function
  await step.run('a', 1);
  // @ts-expect-error an option is misspelt
  await step.run('a', () => 1, { retries: 3 });
}
void steps;

// ---- waits

async function waits() {
  const failing = await step.waitForEvent<{ code: string }>('go', { timeout: '24h' });
  expectType<{ code: string }>()(failing.payload);
  const cancelling = await step.waitForEvent<{ code: string }>('go', { timeout: '24h', onTimeout: 'cancel' });
  expectType<{ code: string }>()(cancelling.payload);
  expectType<unknown>()((await step.waitForEvent('go')).payload);
  expectType<unknown>()((await step.waitForEvent(['go', 'stop'])).payload);
  expectType<'go' | 'stop'>()((await step.waitForEvent(['go', 'stop'])).name);
  const several: string[] = ['go', 'stop'];
  expectType<ReceivedEvent<unknown>>()(await step.waitForEvent(several));
  expectType<{ n: number }>()((await step.waitForEvent<{ n: number }>(['go', 'stop'])).payload);
  expectType<{ n: number }>()((await step.waitForEvent<{ n: number }>(several)).payload);
  // @ts-expect-error none of them is called so
  if ((await step.waitForEvent(['go', 'stop'])).name === 'stp') return;

  const event = await step.waitForEvent<{ code: string }>('go', { timeout: '24h', onTimeout: 'continue' });
  expectType<ReceivedEvent<{ code: string }> | TimedOut>()(event);
  // @ts-expect-error it may have timed out
  event.payload;
  if (event.timedOut) {
    expectType<number>()(event.deadline);
    // @ts-expect-error there is no event then
    event.payload;
  } else {
    expectType<string>()(event.payload.code);
    // @ts-expect-error and no deadline now
    event.deadline;
  }
  const open: WaitOptions<{ code: string }> = { timeout: '24h', onTimeout: 'continue' };
  const either = await step.waitForEvent('go', open); // its type does not say that it waits for ever, or fails
  expectType<ReceivedEvent<{ code: string }> | TimedOut>()(either);
  const paid = defineEvent('paid', z.object({ sum: z.number() }));
  const refused = defineEvent('refused', z.object({ why: z.string() }));
  const first = await step.waitForEvent([paid, refused], { timeout: '1h' });
  expectType<{ sum: number } | { why: string }>()(first.payload);
  const inTime = await step.waitForEvent([paid, refused], { timeout: '1h', onTimeout: 'continue' });
  expectType<ReceivedEvent<{ sum: number }, 'paid'> | ReceivedEvent<{ why: string }, 'refused'> | TimedOut>()(inTime);
  // The name says which of them it is.
  if (first.name === 'paid') expectType<{ sum: number }>()(first.payload);
  else expectType<{ why: string }>()(first.payload);
  const known: ReceivedEvent<{ sum: number } | { why: string }> = first;
  void known;

  // Nothing is known of the payload of an event that is given by its name alone.
  const mixed = await step.waitForEvent([paid, 'declined']);
  expectType<unknown>()(mixed.payload);
  // @ts-expect-error it may be that of the other event
  mixed.payload.sum;
  if (mixed.name === 'paid') expectType<{ sum: number }>()(mixed.payload);
  else expectType<ReceivedEvent<unknown, 'declined'>>()(mixed);
  // @ts-expect-error it waits for no event of this name
  if (mixed.name === 'deklined') void mixed;
  const late = await step.waitForEvent(['declined', paid], { timeout: '1h', onTimeout: 'continue' });
  expectType<ReceivedEvent<unknown, 'declined'> | ReceivedEvent<{ sum: number }, 'paid'> | TimedOut>()(late);
  if (!late.timedOut && late.name === 'paid') expectType<{ sum: number }>()(late.payload);
  const unsaid: WaitOptions = { timeout: '1h' };
  expectType<ReceivedEvent<unknown> | TimedOut>()(await step.waitForEvent(['declined', paid], unsaid));
  await step.waitForEvent([paid, 'declined'], {
    match: (payload) => {
      expectType<unknown>()(payload);
      return true;
    },
  });
  await step.waitForEvent([paid, refused], {
    match: (payload) => {
      expectType<{ sum: number } | { why: string }>()(payload);
      return true;
    },
  });
  // A name that is computed may be any, also that of a defined event.
  const computed = await step.waitForEvent([paid, String(1)]);
  if (computed.name === 'paid') expectType<unknown>()(computed.payload);
  const list: (string | typeof paid)[] = [paid];
  expectType<unknown>()((await step.waitForEvent(list)).payload);
  // Whoever names the payload, or checks it, is believed, as with one event.
  const named = await step.waitForEvent<{ sum: number }>([paid, 'declined']);
  expectType<ReceivedEvent<{ sum: number }>>()(named);
  const namedLate = await step.waitForEvent<{ sum: number }>([paid, 'declined'], { onTimeout: 'continue' });
  expectType<ReceivedEvent<{ sum: number }> | TimedOut>()(namedLate);
  const asserted = await step.waitForEvent<{ sum: number } | { why: string }>([paid, refused]);
  expectType<ReceivedEvent<{ sum: number } | { why: string }>>()(asserted);
  const judged = await step.waitForEvent([paid, 'declined'], { schema: z.object({ sum: z.number() }) });
  expectType<ReceivedEvent<{ sum: number }>>()(judged);
  expectType<ReceivedEvent<{ n: number }>>()(
    await step.waitForEvent(['a', 'b'], { match: ({ n }: { n: number }) => n > 1 }),
  );
  // @ts-expect-error the defined event has another payload
  await step.waitForEvent<{ total: number }>([paid, 'declined']);
  expectType<{ sum: number }>()((await step.waitForEvent(paid)).payload);
  expectType<{ sum: number }>()((await step.waitForEvent([paid])).payload);
  const ping = defineEvent('ping', z.undefined());
  const pinged = await step.waitForEvent([ping, 'declined']);
  if (pinged.name === 'ping') expectType<undefined>()(pinged.payload);
  else expectType<unknown>()(pinged.payload);
  const passedOn: EventType = paid;
  expectType<unknown>()((await step.waitForEvent([passedOn, refused])).payload);
  const given: string | EventType | readonly (string | EventType)[] = paid as never;
  expectType<ReceivedEvent<unknown>>()(await step.waitForEvent(given));
  const oneOrMore = paid as typeof paid | readonly (typeof paid)[];
  expectType<{ sum: number }>()((await step.waitForEvent(oneOrMore)).payload);
  await step.dispatch(paid, { sum: 1 });
  // @ts-expect-error the payload is missing
  await step.dispatch(paid);
  // @ts-expect-error the payload is another event's
  await step.dispatch(paid, { why: 'no money' });
  // @ts-expect-error no such answer to a timeout
  await step.waitForEvent('go', { onTimeout: 'explode' });
  // @ts-expect-error a correlation key is a text
  await step.waitForEvent('go', { correlationKey: 42 });
  // @ts-expect-error an option is misspelt
  await step.waitForEvent('go', { correlationkey: 'k' });
}
void waits;

// ---- played in tests

const defaulted = defineJob(
  'defaulted',
  { payload: z.object({ n: z.number().default(1) }) },
  ({ payload }) => payload.n,
);
void testRun(defaulted, { payload: {} }).then((run) => expectType<number | undefined>()(run.result));
void crashEverywhere(defaulted, () => ({ payload: { n: 2 } }));
// @ts-expect-error a number is wanted
void testRun(defaulted, { payload: { n: 'two' } });

// ---- durations and instants

const durations: Duration[] = ['24h', '1 day', '1.5h', '30s', '250', 1500];
void durations;
// @ts-expect-error no such unit
const parsecs: Duration = '24 parsecs';
void parsecs;
// @ts-expect-error no such unit
void step.sleep('nap', '24 parsecs');
// @ts-expect-error one number with one unit
void step.sleep('nap', '1h30m');
// @ts-expect-error a computed string is no duration
void step.sleep('nap', String(1));
// @ts-expect-error no such unit
void step.waitForEvent('go', { timeout: '24 parsecs' });
// @ts-expect-error no such unit
void stepfast.dispatch('go', 1, { ttl: '24 parsecs' });
// @ts-expect-error no such unit
void stepfast.start('job', 1, { delay: '24 parsecs' });
// @ts-expect-error no such unit
stepfast.job('retries', { retry: { initialDelay: '24 parsecs' } }, async () => 1);
// @ts-expect-error an instant is a Date, a number or a text
void step.sleepUntil('later', null);

// ---- engine

// @ts-expect-error a store is needed
createStepfast({});
// @ts-expect-error an option is misspelt
createStepfast({ store, onErrors: () => undefined });
// @ts-expect-error a job has a handler
stepfast.job('none');
// @ts-expect-error a version is a number
stepfast.job('versioned', { version: '2' }, async () => 1);
async function readOnly() {
  const run = (await stepfast.runs.get('r'))!;
  // @ts-expect-error a snapshot is not written to
  run.status = 'completed';
}
void readOnly;

async function receipts() {
  const receipt = await stepfast.dispatch('go', { any: 'thing' }, { correlationKey: 'k' });
  expectType<string>()(receipt.id);
  expectType<boolean>()(receipt.deduplicated);
  expectType<readonly string[]>()(receipt.resumed);
}
void receipts;

export const handler: Handler<{ n: number }, number> = ({ payload }) => payload.n;
// @ts-expect-error codes are a closed list
export const isCode = (error: StepfastError) => error.code === 'NO_SUCH_CODE';

// ---- defined events

const verified = defineEvent(
  'email.verified',
  z.object({ userId: z.string(), at: z.string().transform((text) => new Date(text)), times: z.number().default(1) }),
);
expectType<
  EventType<
    { userId: string; at: Date; times: number },
    { userId: string; at: string; times?: number | undefined },
    'email.verified'
  >
>()(verified);
async function events() {
  const receipt = await stepfast.dispatch(verified, { userId: '42', at: '2026-03-01' }, { correlationKey: 'k' });
  expectType<readonly string[]>()(receipt.resumed);
  // @ts-expect-error a field is missing
  await stepfast.dispatch(verified, { userId: '42' });
  // @ts-expect-error a field has another type: the schema takes a text and makes a date of it
  await stepfast.dispatch(verified, { userId: '42', at: new Date(0) });
  // @ts-expect-error the payload is not optional
  await stepfast.dispatch(verified);
  // @ts-expect-error an option is misspelt
  await stepfast.dispatch(verified, { userId: '42', at: '' }, { correlationkey: 'k' });
  await stepfast.dispatch(defineEvent('ping', z.undefined()));
  await stepfast.dispatch(defineEvent('maybe', z.string().optional()));
  // An event of any payload, for places that only pass it on.
  const any: EventType = verified;
  await stepfast.dispatch(any, { whatever: 1 });
  // @ts-expect-error an event has a schema
  defineEvent('none');
  // @ts-expect-error this is none
  defineEvent('none', { parse: () => 1 });
}
void events;

// ---- options of a job

stepfast.job(
  'keyed',
  {
    payload: z.object({ userId: z.string() }),
    queue: {
      name: 'q',
      concurrency: 2,
      rateLimit: { limit: 5, per: '1m' },
      singleton: {
        key: (payload) => {
          expectType<{ userId: string }>()(payload);
          return payload.userId;
        },
      },
    },
    onFailed: ({ payload, error, run, signal }) => {
      expectType<{ userId: string }>()(payload);
      expectType<string>()(error.message);
      expectType<string>()(run.id);
      expectType<AbortSignal>()(signal);
    },
    retention: { completed: '1 day', failed: Infinity },
    timeout: '1h',
    upgrade: 'restart',
    migrate: ({ payload, steps, version }) => {
      expectType<unknown>()(payload);
      expectType<unknown>()(steps[0]?.value);
      expectType<number>()(version);
      return { rename: { old: 'new' } };
    },
  },
  async ({ payload }) => payload.userId,
);
// The payload can be named without a schema too.
const save = stepfast.job<{ doc: string }>(
  'save',
  { queue: { name: 'q', debounce: { delay: '1m', key: ({ doc }) => doc } } },
  ({ payload }) => expectType<{ doc: string }>()(payload),
);
void stepfast.start(save, { doc: 'd' }, { priority: 5, idempotencyTtl: '1 day' });
// @ts-expect-error a field has the wrong type
void stepfast.start(save, { doc: 1 });
// @ts-expect-error a key is a text
stepfast.job<{ doc: number }>('bad', { queue: { name: 'q', singleton: { key: ({ doc }) => doc } } }, () => 1);
export const options: JobOptions[] = [
  // @ts-expect-error a queue has a name
  { queue: { concurrency: 1 } },
  // @ts-expect-error no such unit
  { queue: { name: 'q', rateLimit: { limit: 1, per: '24 parsecs' } } },
  // @ts-expect-error a singleton is true, or has a key
  { queue: { name: 'q', singleton: false } },
  // @ts-expect-error no such unit
  { retention: '24 parsecs' },
  // @ts-expect-error runs that are active are kept
  { retention: { running: '1d' } },
  // @ts-expect-error no such way to upgrade
  { upgrade: 'explode' },
  // @ts-expect-error a migration renames to texts
  { migrate: () => ({ rename: { old: 1 } }) },
];

// ---- shared state

async function shared() {
  const { state } = stepfast;
  expectType<unknown>()(await state.get('k'));
  expectType<{ n: number } | undefined>()(await state.get<{ n: number }>('k'));
  expectType<number>()(await state.increment('n', 2, { ttl: '1h' }));
  expectType<Lock | undefined>()(await state.lock('door', { ttl: '1m' }));
  await state.set('k', { n: 1 }, { expiresAt: new Date(0) });
  // @ts-expect-error a lock has a time
  await state.lock('door');
  // @ts-expect-error no such unit
  await state.set('k', 1, { ttl: '24 parsecs' });
  // @ts-expect-error a number is added
  await state.increment('n', '2');
}
void shared;

// ---- forks and plug-ins

async function forks() {
  const fork = await stepfast.runs.fork('r', { before: 'b', payload: { any: 'thing' } });
  expectType<RunHandle<unknown>>()(fork);
  expectType<void>()(await stepfast.runs.delete('r'));
  // @ts-expect-error a fork is made before a step
  await stepfast.runs.fork('r', {});
}
void forks;

export const listens: Plugin = { name: 'listens', committed: ({ entries }) => void entries[0]?.kind };
createStepfast({ store, use: [listens, { name: 'adds', words: ({ look }) => ({ look }) }] });
// @ts-expect-error a plug-in has a name
createStepfast({ store, use: [{ committed: () => undefined }] });

// ---- an engine over a port has the same type, and every kind of port is one

export const remote: Stepfast = connectStepfast(new MessageChannel().port2);
expectType<Stepfast>()(connectStepfast(new Worker('engine.js'), { heartbeat: '30s', onLost: ({ code }) => void code }));
export const ports: BridgePort[] = [
  new MessageChannel().port1,
  new Worker('engine.js'),
  new NodeChannel().port1,
  new NodeWorker('engine.js'),
  parentPort!,
  globalThis.self as unknown as DedicatedWorkerGlobalScope,
  { postMessage: () => undefined, on: (type: string, listener: (message: unknown) => void) => [type, listener] },
];
interface DedicatedWorkerGlobalScope extends EventTarget {
  postMessage(message: unknown, options?: { readonly transfer?: unknown[] }): void;
}
expectType<Promise<RunHandle<{ onboarded: boolean }>>>()(remote.start(onboarded, { userId: '42' }));
declare const onboarded: Job<{ userId: string }, { onboarded: boolean }>;
// @ts-expect-error the payload is that of the job, here too
void remote.start(onboarded, { userID: '42' });
expectType<void>()(serveStepfast(stepfast, new MessageChannel().port1).close());
// @ts-expect-error a port can be written to
serveStepfast(stepfast, { on: () => undefined });
// @ts-expect-error no such unit
connectStepfast(new MessageChannel().port2, { heartbeat: '24 parsecs' });
