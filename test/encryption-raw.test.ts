import 'fake-indexeddb/auto';
import './fake-locks.js';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { serialize } from 'node:v8';
import { openDB } from 'idb';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { fileStore } from '../adapters/file/index.js';
import { indexedDBStore } from '../adapters/indexeddb/index.js';
import { memoryMedium, memoryStore } from '../adapters/memory/index.js';
import { schedules } from '../plugins/schedules/index.js';
import type { Stepfast, Store } from '../src/index.js';
import { keyBytes, keyVault, plugin } from './encryption-kit.js';
import { freshFolder, freshName, type World, world } from './harness.js';

// Pins: what lies in a store is searched byte by byte for everything that a user has handed in, in every form that a text
// takes by itself: none of it is there. The same search finds all of it where there is no encryption.

beforeEach(() => void vi.spyOn(console, 'warn').mockImplementation(() => undefined));
afterEach(() => vi.restoreAllMocks());

/** What must not be found: distinctive, and each in one place alone. */
const secrets = {
  payload: 'Quagmire-payload',
  'key inside a payload': 'Quagmire-field',
  'job result': 'Xylophone-result',
  'step result': 'Zeppelin-outcome',
  'name of a step': 'Numbat-step',
  'event payload': 'Hedgehog-event',
  'correlation key': 'Marmalade-correlation',
  'key of a timed-out wait': 'Okapi-correlation',
  'idempotency key of a start': 'Flamingo-start-key',
  'idempotency key of an event': 'Pangolin-event-key',
  'singleton key': 'Ocelot-singleton',
  'debounce key': 'Wombat-debounce',
  'debounced payload': 'Wombat-payload',
  tag: 'Armadillo-tag',
  'message of a step error': 'Rhubarb-failure',
  'code of an error': 'E_KUMQUAT',
  'data of an error': 'Tamarind-data',
  'message of a handler error': 'Cauliflower-crash',
  'log line': 'Saxophone-log-line',
  'data of a log line': 'Trombone-log-data',
  progress: 'Bassoon-progress',
  'state key': 'Cormorant-state-key',
  'state value': 'Albatross-state-value',
  'lock name': 'Pelican-lock',
  'counter value': '987654321012',
  'payload of a child': 'Porcupine-child',
  'payload of an event that a step sent': 'Echidna-sent',
  'payload in a schedule of retries': 'Platypus-later',
} as const;
type Secret = keyof typeof secrets;
const of = (name: Secret): string => secrets[name];

/** The base64 texts that stand for a text wherever it begins in the bytes, without the digits its neighbours share. */
const base64Of = (bytes: Buffer): string[] =>
  [0, 1, 2].map((offset) => {
    const text = Buffer.concat([Buffer.alloc(offset), bytes])
      .toString('base64')
      .replace(/=+$/, '');
    return text.slice(Math.ceil((offset * 8) / 6), Math.floor(((offset + bytes.length) * 8) / 6));
  });

/** Every form of a text that is looked for. */
function formsOf(text: string): Buffer[] {
  const utf16 = Buffer.from(text, 'utf16le');
  const forms = [Buffer.from(text), utf16, Buffer.from(utf16).swap16()];
  const asText = forms.flatMap((form) => [...base64Of(form), form.toString('hex')]);
  const others = [...asText, ...asText.map((each) => each.replaceAll('+', '-').replaceAll('/', '_'))];
  return [...forms, ...others.flatMap((each) => [Buffer.from(each), Buffer.from(each, 'utf16le')])];
}

const found = (bytes: Buffer): string[] =>
  (Object.keys(secrets) as Secret[]).filter((name) => formsOf(of(name)).some((form) => bytes.includes(form)));

/** A medium, and all that it holds. */
interface Medium {
  readonly open: () => Store;
  readonly bytes: () => Promise<Buffer>;
}

/** Values as bytes, and as text besides: numbers are not legible in the first. */
const dump = (value: unknown): Buffer => {
  const all = { depth: Infinity, maxArrayLength: Infinity, maxStringLength: Infinity };
  return Buffer.concat([serialize(value), Buffer.from(inspect(value, all))]);
};

const filesUnder = (folder: string): Buffer[] =>
  readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    return [
      Buffer.from(path),
      ...(entry.isDirectory() ? filesUnder(path) : entry.isFile() ? [readFileSync(path)] : []),
    ];
  });

const media: Readonly<Record<string, () => Medium>> = {
  memory() {
    const medium = memoryMedium();
    const { tables, journals } = medium;
    return {
      open: () => memoryStore({ medium }),
      bytes: async () => dump([tables.runs, tables.log, tables.shared, journals]),
    };
  },
  indexeddb() {
    const name = freshName();
    return {
      open: () => indexedDBStore({ name }),
      async bytes() {
        const db = await openDB(name);
        const all = await Promise.all(
          [...db.objectStoreNames].map(async (each) => [await db.getAllKeys(each), await db.getAll(each)]),
        );
        db.close();
        return dump(all);
      },
    };
  },
  file() {
    const dir = freshFolder();
    return { open: () => fileStore({ dir }), bytes: async () => Buffer.concat(filesUnder(dir)) };
  },
};

/** A job for each thing that a run can leave in a store. */
function define(stepfast: Stepfast): void {
  stepfast.job<{ text: string }>('child', ({ payload }) => payload.text.length);
  stepfast.job<{ delay: string; text: string }>(
    'debounced',
    { queue: { name: 'debounced', debounce: { delay: '1m', key: () => of('debounce key') } } },
    () => 'over',
  );
  stepfast.job('failing', { retry: { maxAttempts: 2, initialDelay: '1m' } }, async ({ step }) => {
    await step.run('fail', () => {
      throw Object.assign(new Error(of('message of a step error')), {
        code: of('code of an error'),
        data: { deep: of('data of an error') },
      });
    });
  });
  stepfast.job('crashing', { retry: { maxAttempts: 1 } }, () => {
    throw new Error(of('message of a handler error'));
  });
  stepfast.job<Record<string, string>>(
    'everything',
    { queue: { name: 'everything', singleton: { key: () => of('singleton key') } } },
    async ({ step, log }) => {
      log.info(of('log line'), { at: of('data of a log line') });
      await step.run(of('name of a step'), async ({ progress, state }) => {
        progress({ at: of('progress') });
        await state.set(of('state key'), { bird: of('state value') });
        await state.increment('counter', Number(of('counter value')));
        return { made: of('step result') };
      });
      await step.call('child' as never, { text: of('payload of a child') } as never);
      await step.dispatch('sent', { text: of('payload of an event that a step sent') });
      await step.waitForEvent('never', {
        correlationKey: of('key of a timed-out wait'),
        timeout: '1h',
        onTimeout: 'continue',
      });
      await step.waitForEvent('clicked', { correlationKey: of('correlation key') });
      return of('job result');
    },
  );
}

/** Runs that touch everything; `look` is called whenever they rest. */
async function scenario(w: World, stepfast: Stepfast, look: () => Promise<void>): Promise<void> {
  const rest = async () => {
    await w.clock.idle();
    await look();
  };
  const payload = { a: of('payload'), [of('key inside a payload')]: of('payload in a schedule of retries') };
  const { id } = await stepfast.start('everything', payload, {
    idempotencyKey: of('idempotency key of a start'),
    tags: [of('tag')],
  });
  const failing = await stepfast.start('failing');
  await stepfast.start('crashing');
  for (const text of ['', of('debounced payload')]) await stepfast.start('debounced', { delay: '', text });
  const lock = await stepfast.state.lock(of('lock name'), { ttl: '1h' });
  await rest();
  await w.clock.advance('2h');
  await rest();
  await lock?.release();
  const event = { correlationKey: of('correlation key'), idempotencyKey: of('idempotency key of an event') };
  await stepfast.dispatch('clicked', { by: of('event payload') }, event);
  await rest();
  expect(await stepfast.runs.get(id)).toMatchObject({ status: 'completed', result: of('job result') });
  expect(await failing.status()).toBe('failed');
  expect((await stepfast.runs.list({ job: 'debounced' })).runs).toMatchObject([{ status: 'completed' }]);
  await stepfast.runs.fork(id, { before: of('name of a step') });
  await rest();
  await stepfast.runs.delete(id);
  await rest();
}

for (const [kind, medium] of Object.entries(media))
  describe(`what lies in the store (${kind})`, () => {
    const vault = keyVault('user:1');
    const everybody = { keyOf: () => 'user:1', keys: vault.options.keys };
    for (const [keys, options] of Object.entries({ 'one key': {}, 'a key of each run': everybody }))
      it(`no byte tells what was handed in, at any time (${keys})`, async () => {
        const { open, bytes } = medium();
        const w = world(() => open);
        const engine = w.engine(define, { use: [plugin(options)] });
        const seen = new Set<string>();
        let looks = 0;
        await scenario(w, engine, async () => {
          looks++;
          for (const name of found(await bytes())) seen.add(name);
        });
        await engine.close();
        const after = w.engine(define, {
          use: [plugin({ ...options, key: keyBytes(2), keyId: 'k2', previous: { k1: keyBytes(1) } })],
        });
        await after.start('everything', { a: of('payload') });
        await w.clock.advance('2h');
        for (const name of found(await bytes())) seen.add(name);
        expect([...seen]).toEqual([]);
        expect(looks).toBe(5);
        expect(w.errors).toEqual([]);
      });

    it('the search finds all of it without encryption', async () => {
      const { open, bytes } = medium();
      const w = world(() => open);
      const seen = new Set<string>();
      await scenario(w, w.engine(define), async () => {
        for (const name of found(await bytes())) seen.add(name);
      });
      expect([...seen].sort()).toEqual(Object.keys(secrets).sort());
    });
  });

it('the search knows a text in every form', () => {
  const text = of('payload');
  const noise = (form: Buffer) => Buffer.concat([Buffer.from('x'), form, Buffer.from('yz')]);
  const forms = [
    Buffer.from(text),
    Buffer.from(text, 'utf16le'),
    Buffer.from(noise(Buffer.from(text)).toString('base64')),
    Buffer.from(noise(Buffer.from(text)).toString('base64url')),
    Buffer.from(noise(Buffer.from(text)).toString('hex')),
    Buffer.from(noise(Buffer.from(text, 'utf16le')).toString('base64')),
  ];
  for (const form of forms) expect(found(noise(form))).toEqual(['payload']);
  expect(found(noise(Buffer.from('nothing of it')))).toEqual([]);
});

/** What stays readable, by the words that docs/encryption.md has for it. */
const readable = {
  'Job names': 'Heron-job',
  'event names': 'Egret-event',
  'names of queues': 'Bittern-queue',
  'of schedules': 'Stork-schedule',
  'ids of runs': 'Ibis-run',
  'of keys': 'Spoonbill-key',
  'the id of an event that a step dispatched holds the name of the step': 'Crane-step',
} as const;
type Readable = keyof typeof readable;

for (const [kind, medium] of Object.entries(media))
  it(`what stays readable is what docs/encryption.md lists (${kind})`, async () => {
    const { open, bytes } = medium();
    const w = world(() => open);
    const queue = readable['names of queues'];
    const step: Readable = 'the id of an event that a step dispatched holds the name of the step';
    const job = readable['Job names'];
    const define = (stepfast: Stepfast) => {
      stepfast.job(job, { queue }, async ({ step: { dispatch, waitForEvent } }) => {
        await dispatch(readable['event names'], null, { name: readable[step] });
        await waitForEvent('never');
      });
      stepfast.schedule(readable['of schedules'], { every: '1h' }, job);
    };
    const engine = w.engine(define, { use: [plugin({ keyId: readable['of keys'] }), schedules()] });
    await engine.start(job, undefined, { id: readable['ids of runs'] });
    await w.clock.advance('2h');
    const all = await bytes();
    const docs = readFileSync(new URL('../docs/encryption.md', import.meta.url), 'utf8').replace(/\s+/g, ' ');
    for (const [words, name] of Object.entries(readable)) {
      expect.soft(all.includes(name), `${name} lies in the store`).toBe(true);
      expect.soft(docs).toContain(words);
    }
  });
