import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type BridgePort, connectStepfast, type ServeOptions, serveStepfast } from '../plugins/bridge/index.js';
import type { Stepfast } from '../src/index.js';
import { cleanup, eventually, failureOf, pair } from './bridge-kit.js';

/*
 * Pins: nothing that arrives over a port, and nothing that it leads to, is thrown out of the listener of the port, where it
 * would end the process that owns the engine; who asked is told, and what nobody can be told goes to onError (spec B, O5).
 */

const waits = (stepfast: Stepfast) =>
  stepfast.job('waits', async ({ step }) => (await step.waitForEvent('never')).payload);

/** What no listener may throw is seen where it would end a process: nothing else can catch it. */
const unhandled: unknown[] = [];
const note = (reason: unknown) => void unhandled.push(reason);
beforeEach(() => void process.on('unhandledRejection', note));
afterEach(async () => {
  await new Promise((resolve) => setTimeout(resolve, 5)); // a rejection is unhandled once the loop has turned
  process.off('unhandledRejection', note);
  expect(unhandled.splice(0)).toEqual([]);
});

type Said = { readonly kind: string; readonly engine: string; readonly id?: number; readonly error?: object };

/** A port whose other end is the test: it calls the listeners itself, and so is thrown what they throw. */
function ownPort(post: (message: Said) => void = () => undefined) {
  const posted: Said[] = [];
  const listeners = new Map<string, (message: unknown) => void>();
  const port: BridgePort = {
    postMessage(message) {
      posted.push(message as Said);
      post(message as Said);
    },
    on: (type, listener) => listeners.set(type, listener),
    off: (type) => listeners.delete(type),
  };
  const hear = (message: object) => listeners.get('message')!(message);
  return { port, posted, hear, end: () => listeners.get('close')!(undefined) };
}

/** An engine that is served, and what a client of any kind says to it. */
function served(engine: Stepfast, options: ServeOptions = {}, post?: (message: Said) => void) {
  const { port, posted, hear, end } = ownPort(post);
  const errors: unknown[] = [];
  const serving = serveStepfast(engine, port, { onError: (error) => void errors.push(error), ...options });
  cleanup(() => serving.close());
  const own = posted[0]!.engine;
  const say = (message: object) =>
    hear({ stepfast: 'bridge', v: 1, to: 'engine', client: 'c', engine: own, ...message });
  say({ kind: 'hello' });
  const call = (word: unknown, ...given: unknown[]) =>
    say({ kind: 'call', id: 1, word, given: given.map((json) => ({ kind: 'value', json })) });
  return { posted, errors, serving, say, call, end };
}
const run = (json: unknown) => ({ kind: 'value', json });

describe('the side that serves', () => {
  it('B: a subscription that the engine refuses is answered with why', async () => {
    const { engine } = pair(waits);
    const { say, posted, errors } = served(engine);
    say({ kind: 'subscribe', id: 7, run: run('') });
    expect(posted.at(-1)).toMatchObject({ kind: 'error', id: 7, error: { recorded: { code: 'INVALID_ID' } } });
    await engine.close();
    say({ kind: 'subscribe', id: 8, run: run('r') });
    expect(posted.at(-1)).toMatchObject({ kind: 'error', id: 8, error: { recorded: { code: 'CLOSED' } } });
    expect(errors).toEqual([]);
  });

  it.each([
    ['forget', { kind: 'forget', id: 7 }],
    ['the end of the client', { kind: 'bye' }],
  ])('B: what an undoing throws is told to onError, and the rest is undone: %s', async (_, message) => {
    const { engine } = pair(waits);
    let undone = 0;
    engine.runs.subscribe = () => () => {
      undone++;
      throw new Error('an undoing that throws');
    };
    const { say, errors } = served(engine);
    for (const id of [7, 8]) say({ kind: 'subscribe', id, run: run('r') });
    say(message);
    say({ kind: 'bye' });
    expect(undone).toBe(2);
    expect(errors.map(String)).toEqual(Array(2).fill('Error: an undoing that throws'));
  });

  it('O5: an id that subscribes again leaves nothing behind', () => {
    const { engine } = pair(waits);
    let open = 0;
    engine.runs.subscribe = () => {
      open++;
      return () => void open--;
    };
    const { say } = served(engine);
    for (let time = 0; time < 3; time++) say({ kind: 'subscribe', id: 7, run: run('r') });
    say({ kind: 'bye' });
    expect(open).toBe(0);
  });

  const oddities = [undefined, null, 0, '', 'toString', -1, NaN, {}, [], [null], { kind: 'value' }, { kind: 'rows' }];
  it('B: messages that make no sense do no harm, whatever is missing of them', async () => {
    const { engine } = pair(waits);
    const { say, call, posted, errors } = served(engine);
    for (const odd of oddities) {
      for (const kind of ['call', 'subscribe', 'forget', 'hello', 'ping', 'pong', 'leaving', odd]) say({ kind });
      for (const field of ['id', 'word', 'given', 'run', 'v', 'client', 'engine']) {
        say({ kind: 'call', id: 1, word: 'runs.get', given: [run('r')], [field]: odd });
        say({ kind: 'subscribe', id: 2, run: run('r'), [field]: odd });
        say({ kind: 'forget', id: 2, [field]: odd });
      }
      for (const word of [
        'schedule',
        'schedule.next',
        'schedule.stop',
        'lock.release',
        'handle.result',
        'state.lock',
      ]) {
        call(word, odd);
        say({ kind: 'call', id: 1, word, given: [odd, odd] });
      }
    }
    call('start', 'waits');
    await eventually(() => posted.some(({ kind, id }) => kind === 'value' && id === 1));
    expect(errors).toEqual([]);
  });

  it.each([
    'error',
    'value',
    'welcome',
    'pong',
    'bye',
  ])('B: a port that can not be written to, and an onError that throws: %s', async (broken) => {
    const { engine } = pair(waits);
    const heard: unknown[] = [];
    const onError = (error: unknown) => {
      heard.push(error);
      throw new Error('an error handler that throws');
    };
    const { say, call, serving, posted } = served(engine, { onError }, ({ kind }) => {
      if (kind === broken || kind === 'error') throw new Error('closed');
    });
    say({ kind: 'ping' });
    say({ kind: 'subscribe', id: 2, run: run('') });
    call('ready');
    call('nothing');
    await eventually(() => posted.filter(({ id }) => id === 1).length >= 2);
    serving.close();
    expect(heard.map(String)).toContain('Error: closed');
  });

  it('B: a port that ends, and an undoing that throws', () => {
    const { engine } = pair(waits);
    engine.runs.subscribe = () => () => {
      throw new Error('an undoing that throws');
    };
    const { say, end, errors } = served(engine);
    say({ kind: 'subscribe', id: 7, run: run('r') });
    end();
    expect(errors.map(String)).toEqual(['Error: an undoing that throws']);
  });
});

describe('the side that uses it', () => {
  const LISTENER = () => undefined;
  const refused: Readonly<Record<string, (stepfast: Stepfast) => unknown>> = {
    ...Object.fromEntries(
      ['', 5, undefined, null, {}, 'x'.repeat(257)].map((id) => [
        `the id ${String(id).slice(0, 20)}`,
        ({ runs }: Stepfast) => runs.subscribe(id as string, LISTENER),
      ]),
    ),
    ...Object.fromEntries(
      [undefined, 5, null, {}].map((listener) => [
        `the listener ${String(listener)}`,
        ({ runs }: Stepfast) => runs.subscribe('r', listener as never),
      ]),
    ),
  };
  const thrownBy = (call: () => unknown) => failureOf(new Promise((resolve) => resolve(call())));

  it.each(Object.entries(refused))('B: subscribe refuses at the call what it refuses at home: %s', async (_, call) => {
    const { engine, remote } = pair(waits);
    const [there, here] = [await thrownBy(() => call(remote)), await thrownBy(() => call(engine))];
    expect(there).toMatchObject({ name: 'StepfastError', code: (here as { readonly code?: string }).code });
    expect(there.message).toBe(here.message);
  });

  it('B: so does the subscribe of a handle', async () => {
    const { remote } = pair(waits);
    const handle = await remote.start('waits');
    expect(() => handle.subscribe(undefined as never)).toThrow(/INVALID_OPTION/);
  });

  it('B: a subscription that the engine refuses later is told to onError, and depends on nothing any more', async () => {
    const { engine, remote, errors, lost } = pair(waits);
    const handle = await remote.start('waits');
    await engine.close();
    const undo = handle.subscribe(LISTENER);
    await eventually(() => errors.length > 0);
    expect(errors).toEqual([expect.objectContaining({ name: 'StepfastError', code: 'CLOSED' })]);
    undo();
    expect(await failureOf(remote.runs.list())).toMatchObject({ code: 'CLOSED' });
    expect(lost).toEqual([]);
  });

  it('B: who subscribes after the end is told so at the call', async () => {
    const { remote, serving, lost } = pair(waits);
    const handle = await remote.start('waits');
    serving.close();
    await eventually(() => lost.length > 0);
    expect(() => remote.runs.subscribe('r', LISTENER)).toThrow(lost[0] as Error);
    await remote.close();
    expect(() => handle.subscribe(LISTENER)).toThrow(/CLOSED/);
  });

  it('B: a listener that is asynchronous and rejects is told to onError', async () => {
    const { remote, errors } = pair(waits);
    const handle = await remote.start('waits');
    handle.subscribe(async () => {
      throw new Error('from a listener');
    });
    await eventually(() => errors.length > 0);
    expect(String(errors[0])).toBe('Error: from a listener');
  });

  it.each(['onLost', 'onError'])('B: %s may be asynchronous, and reject', async (option) => {
    let heard = 0;
    const hook = async () => {
      heard++;
      throw new Error('from a hook');
    };
    const { port, end } = ownPort();
    const remote = connectStepfast(port, { onError: () => undefined, [option]: hook });
    cleanup(() => remote.close());
    end();
    expect(heard).toBe(1);
  });

  it('B: what makes no sense is told to onError, and the connection stays', async () => {
    const { port, posted, hear } = ownPort();
    const errors: unknown[] = [];
    const remote = connectStepfast(port, { onError: (error) => void errors.push(error) });
    cleanup(() => remote.close());
    const { client } = posted[0] as unknown as { readonly client: string };
    const say = (message: object) => hear({ stepfast: 'bridge', v: 1, to: 'client', engine: 'e', client, ...message });
    say({ kind: 'welcome' });
    for (const kind of ['value', 'snapshot', 'error', 'pong', undefined]) say({ kind });
    expect(errors.map((error) => (error as Error).name)).toEqual(['TypeError']);
    const ready = remote.ready();
    say({ kind: 'value', id: posted.at(-1)!.id, value: run(null) });
    await ready;
  });
});
