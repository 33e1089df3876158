import { EventEmitter } from 'node:events';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { type BridgePort, connectStepfast, serveStepfast } from '../plugins/bridge/index.js';
import type { Stepfast } from '../src/index.js';
import { simulatedClock } from '../src/testing/index.js';
import { channel, cleanup, eventually, failureOf, pair, until } from './bridge-kit.js';

/*
 * Pins: a port that is lost is noticed, in every way a port has of ending; what one side held at the other is given back;
 * messages of strangers, and of other releases, do no harm (spec O5).
 */

const waits = (stepfast: Stepfast) =>
  stepfast.job('waits', async ({ step }) => (await step.waitForEvent('never')).payload);

/** Ports that never say when they end, as those of most browsers: what is posted arrives until it is cut. */
function mutePorts() {
  const ends = [new EventEmitter(), new EventEmitter()] as const;
  const posted: unknown[] = [];
  let isCut = false;
  const portOf = (own: EventEmitter, other: EventEmitter): BridgePort => ({
    postMessage(message) {
      posted.push(structuredClone(message));
      if (!isCut) setImmediate(() => other.emit('message', structuredClone(message)));
    },
    on: (type, listener) => own.on(type, listener),
    off: (type, listener) => own.off(type, listener),
  });
  return {
    near: portOf(ends[0], ends[1]),
    far: portOf(ends[1], ends[0]),
    posted: posted as { readonly kind: string; readonly to: string }[],
    cut: () => (isCut = true),
    mend: () => (isCut = false),
    listeners: () => ends.map((end) => end.eventNames().reduce((sum, name) => sum + end.listenerCount(name), 0)),
  };
}

/** An engine at the near end, a client at the far one, their patience on a clock of its own. */
function overMutePorts(patience: { readonly heartbeat?: number } = {}) {
  const ports = mutePorts();
  const clock = simulatedClock();
  const { engine } = pair(waits);
  const lost: { readonly code: string }[] = [];
  const serving = serveStepfast(engine, ports.near, { clock });
  const connect = () => connectStepfast(ports.far, { ...patience, clock, onLost: (error) => void lost.push(error) });
  const remote = connect();
  cleanup(() => serving.close());
  cleanup(() => remote.close());
  const said = (kind: string, to: string) => ports.posted.filter((each) => each.kind === kind && each.to === to).length;
  return { ...ports, clock, engine, serving, connect, remote, lost, said };
}

describe('O5: a lost port is noticed', () => {
  it('O5: when the port closes, what was asked for rejects with PORT_LOST, and so does all that is asked later', async () => {
    const { remote, port1, lost, engine } = pair(waits);
    const handle = await remote.start('waits');
    const result = failureOf(handle.result());
    await until(engine.runs, handle.id, 'waiting');
    port1.close();
    const error = await result;
    expect(error).toMatchObject({ name: 'StepfastError', code: 'PORT_LOST' });
    expect(error.message).toMatch(/may have happened or not.*Connect again/);
    expect(lost).toEqual([error]);
    expect(await failureOf(remote.runs.list())).toBe(error);
    expect(() => remote.schedule('s', { every: '1h' }, 'waits')).toThrow(error);
    expect((await engine.runs.get(handle.id))!.status).toBe('waiting');
    await remote.close();
    expect(await failureOf(remote.runs.list())).toMatchObject({ code: 'CLOSED' });
  });

  it('O5: when it is served no longer, its clients know', async () => {
    const { remote, serving, lost } = pair(waits);
    const result = failureOf((await remote.start('waits')).result());
    serving.close();
    serving.close();
    expect(await result).toMatchObject({ code: 'PORT_LOST' });
    expect(lost.length).toBe(1);
  });

  it('O5: a port that says nothing when it ends: nobody answers, twice, and it is lost', async () => {
    const { remote, clock, cut, said, lost } = overMutePorts();
    const handle = await remote.start('waits');
    const result = failureOf(handle.result());
    await remote.runs.list();
    cut();
    await clock.advance('44s');
    expect(lost).toEqual([]);
    expect(said('ping', 'engine')).toBe(1);
    await clock.advance('1s');
    expect(await result).toMatchObject({ code: 'PORT_LOST' });
    expect(lost.length).toBe(1);
  });

  it('O5: nobody has ever answered: lost as well', async () => {
    const { far } = mutePorts();
    const clock = simulatedClock();
    const remote = connectStepfast(far, { clock, onLost: () => undefined });
    const ready = failureOf(remote.ready());
    await clock.advance('30s');
    expect(await ready).toMatchObject({ code: 'PORT_LOST' });
  });

  it('O5: an engine that answers is there, however long nothing happens; and nothing is asked while nothing depends on it', async () => {
    const { remote, clock, said, lost } = overMutePorts();
    await remote.ready();
    await clock.advance('1h');
    expect(said('ping', 'engine')).toBe(0);
    const undo = remote.runs.subscribe((await remote.start('waits')).id, () => undefined);
    for (let minute = 0; minute < 3; minute++) {
      await clock.advance('1m');
      await eventually(() => said('pong', 'client') === said('ping', 'engine'));
    }
    expect(said('ping', 'engine')).toBeGreaterThan(2);
    expect(lost).toEqual([]);
    undo();
    await clock.advance('1m');
    const before = said('ping', 'engine');
    await clock.advance('1h');
    expect(said('ping', 'engine')).toBe(before);
  });

  it('Q4: who was asleep has heard nothing, and asks anew before it believes a port lost', async () => {
    const { remote, clock, cut, mend, lost } = overMutePorts();
    const handle = await remote.start('waits');
    remote.runs.subscribe(handle.id, () => undefined);
    await remote.runs.list();
    cut();
    await clock.advance('31s');
    mend(); // the question was not heard, and then the machine slept
    clock.jump(clock.now() + 3_600_000);
    await clock.advance('1s');
    expect(lost).toEqual([]);
    await clock.advance('1m');
    expect(lost).toEqual([]);
    expect((await remote.runs.get(handle.id))!.status).toBe('waiting');
  });

  it('O5: a client that is silent is given up, and told so when it is back', async () => {
    const { remote, clock, engine, cut, mend, lost, said } = overMutePorts({ heartbeat: Infinity });
    const undone = vi.fn();
    const { subscribe } = engine.runs;
    engine.runs.subscribe = (runId, listener) => {
      const undo = subscribe(runId, listener);
      return () => {
        undone();
        undo();
      };
    };
    const handle = await remote.start('waits');
    remote.runs.subscribe(handle.id, () => undefined);
    await remote.runs.list();
    await clock.advance('10m');
    expect(said('ping', 'client')).toBeGreaterThan(0);
    expect(undone).not.toHaveBeenCalled();
    cut();
    await clock.advance('3m');
    expect(undone).toHaveBeenCalledTimes(1);
    mend();
    expect(lost).toEqual([]);
    expect(await failureOf(remote.runs.list())).toMatchObject({ code: 'PORT_LOST' });
    expect(lost).toMatchObject([{ code: 'PORT_LOST' }]);
  });
});

describe('O5: what was held is given back', () => {
  it('O5: close() ends the connection alone: calls reject with CLOSED, nobody listens any more, the engine goes on', async () => {
    const { remote, serving, engine, listeners, lost } = overMutePorts();
    const handle = await remote.start('waits');
    remote.runs.subscribe(handle.id, () => undefined);
    const result = failureOf(handle.result());
    await remote.runs.list();
    expect(listeners()).toEqual([3, 3]);
    await remote.close();
    await remote.close();
    expect(await result).toMatchObject({ code: 'CLOSED' });
    expect(await failureOf(remote.start('waits'))).toMatchObject({ code: 'CLOSED' });
    expect(listeners()).toEqual([3, 0]);
    expect(lost).toEqual([]);
    expect((await engine.runs.get(handle.id))!.status).toBe('waiting');
    serving.close();
    expect(listeners()).toEqual([0, 0]);
  });

  it('O5: subscriptions of a client that has left are undone at the engine', async () => {
    const { remote, engine, another } = pair(waits);
    let open = 0;
    const { subscribe } = engine.runs;
    engine.runs.subscribe = (runId, listener) => {
      open++;
      const undo = subscribe(runId, listener);
      return () => {
        open--;
        undo();
      };
    };
    const handle = await remote.start('waits');
    const second = another();
    const undo = remote.runs.subscribe(handle.id, () => undefined);
    remote.runs.subscribe(handle.id, () => undefined);
    second.runs.subscribe(handle.id, () => undefined);
    await Promise.all([remote.runs.list(), second.runs.list()]);
    expect(open).toBe(3);
    undo();
    undo();
    await remote.runs.list();
    expect(open).toBe(2);
    await remote.close();
    await eventually(() => open === 1);
  });

  it('O5: waiting for the result of one run again and again, as a page that is reloaded does, waits once', async () => {
    const { engine, another } = pair(waits);
    const { start } = engine;
    let asked = 0;
    engine.start = (async (...given: Parameters<typeof start>) => {
      const handle = await start(...given);
      const result = () => {
        asked++;
        return handle.result();
      };
      return { ...handle, result };
    }) as never;
    for (let load = 0; load < 5; load++) {
      const page = another();
      const handle = await page.start('waits', undefined, { id: 'one' });
      const result = failureOf(handle.result());
      await page.runs.list();
      await page.close();
      expect(await result).toMatchObject({ code: 'CLOSED' });
    }
    expect(asked).toBe(1);
    const page = another();
    const handle = await page.start('waits', undefined, { id: 'one' });
    const result = handle.result();
    await until(engine.runs, 'one', 'waiting');
    await engine.dispatch('never', 'after all');
    expect(await result).toBe('after all');
  });

  it('O5: a handle that nobody holds is forgotten at the other side', async () => {
    setFlagsFromString('--expose_gc');
    const gc = runInNewContext('gc') as () => void;
    const { remote, posted } = overMutePorts();
    const kept = await remote.start('waits');
    for (let n = 0; n < 20; n++) await remote.start('waits');
    const forgotten = () => posted.filter(({ kind }) => kind === 'forget').length;
    while (forgotten() < 10) {
      gc();
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(await kept.status()).toBeTypeOf('string');
  });
});

describe('O5: who else is on the port', () => {
  it('O5: messages of strangers are left alone, and theirs are left alone by us', async () => {
    const { remote, port1, port2, errors } = pair(waits);
    const heard: unknown[] = [];
    port1.on('message', (message) => heard.push(message));
    const oddities = [null, 0, 'hello', [], { kind: 'call' }, { stepfast: 'other' }, { data: { stepfast: 1 } }];
    const ours = { stepfast: 'bridge', v: 1 };
    const forged = [ours, { ...ours, to: 'engine' }, { ...ours, to: 'engine', client: 'x', engine: 'y', kind: 'call' }];
    for (const oddity of [...oddities, ...forged]) {
      port2.postMessage(oddity);
      port1.postMessage(oddity);
    }
    expect((await remote.start('waits')).created).toBe(true);
    expect(errors).toEqual([]);
    expect(heard).toEqual(expect.arrayContaining(oddities));
  });

  it('O5: a word that is none of ours is refused, not looked up', async () => {
    const { port1, engine } = pair(waits);
    const { port1: near, port2: far } = channel();
    const serving = serveStepfast(engine, near);
    cleanup(() => serving.close());
    const answers: { readonly kind: string; readonly engine: string; readonly error?: unknown }[] = [];
    far.on('message', (message) => answers.push(message));
    const say = (message: object) =>
      far.postMessage({ stepfast: 'bridge', v: 1, to: 'engine', client: 'c', ...message });
    say({ kind: 'hello' });
    await eventually(() => answers.some(({ kind }) => kind === 'welcome'));
    const id = answers.at(-1)!.engine;
    for (const word of ['constructor', '__proto__', 'close']) say({ kind: 'call', engine: id, id: 1, word, given: [] });
    await eventually(() => answers.filter(({ kind }) => kind === 'error').length === 3);
    port1.close();
  });

  it('O5: who connects before anybody serves is heard once somebody does', async () => {
    const ports = mutePorts();
    const { engine } = pair(waits);
    const remote = connectStepfast(ports.far);
    const starting = remote.start('waits');
    await new Promise((resolve) => setImmediate(resolve)); // its greeting has arrived, and nobody was there
    const serving = serveStepfast(engine, ports.near);
    expect((await starting).created).toBe(true);
    await remote.close();
    serving.close();
  });

  it('O5: two clients share a port, each with answers of its own', async () => {
    const { remote, connect } = overMutePorts();
    const second = connect();
    const ids = await Promise.all([remote, second].map(async (each) => (await each.start('waits')).id));
    expect(new Set(ids).size).toBe(2);
    await second.close();
    expect((await remote.runs.list()).runs.length).toBe(2);
  });

  it('O5: an engine served twice on one port starts a run once', async () => {
    const { remote, engine, near } = overMutePorts();
    const again = serveStepfast(engine, near);
    cleanup(() => again.close());
    await remote.start('waits');
    expect((await engine.runs.list()).runs.length).toBe(1);
  });

  it.each([
    [2, /newer release/],
    [0, /older release/],
  ])('O6: an engine whose bridge speaks version %i is told apart: OUTDATED', async (v, said) => {
    const { port1, port2 } = channel();
    port1.on('message', ({ client }) =>
      port1.postMessage({ stepfast: 'bridge', v, to: 'client', client, engine: 'e', kind: 'welcome' }),
    );
    const lost: unknown[] = [];
    const remote = connectStepfast(port2, { onLost: (error) => void lost.push(error) });
    const error = await failureOf(remote.ready());
    expect(error).toMatchObject({ code: 'OUTDATED' });
    expect(error.message).toMatch(said);
    expect(lost).toEqual([error]);
  });

  it('O6: a client of another version is answered, so that it can tell, and no more', async () => {
    const { port1, engine } = pair(waits);
    const { port1: near, port2: far } = channel();
    const serving = serveStepfast(engine, near);
    cleanup(() => serving.close());
    const answers: { readonly kind: string }[] = [];
    far.on('message', (message) => answers.push(message));
    far.postMessage({ stepfast: 'bridge', v: 7, to: 'engine', client: 'c', kind: 'hello', more: [1] });
    await eventually(() => answers.some(({ kind }) => kind === 'welcome'));
    expect(answers.at(-1)).toMatchObject({ v: 1, to: 'client', client: 'c' });
    port1.close();
  });

  it('B: what can not carry messages is refused', () => {
    const { engine } = pair(waits);
    expect(() => connectStepfast({} as never)).toThrow(/The port is an object. Give a MessagePort/);
    expect(() => serveStepfast(engine, { postMessage: () => undefined })).toThrow(/INVALID_OPTION/);
    expect(() => serveStepfast({} as never, channel().port1)).toThrow(/The engine is an object/);
    expect(() => connectStepfast(channel().port1, { heartbeat: '24 parsecs' as never })).toThrow(/INVALID_DURATION/);
    expect(() => connectStepfast(channel().port1, { clock: {} as never })).toThrow(
      /clock is an object.*INVALID_OPTION/,
    );
    expect(() => serveStepfast(engine, channel().port1, { clock: {} as never })).toThrow(/clock.*INVALID_OPTION/);
    expect(() => connectStepfast(channel().port1, { onLost: 1 as never })).toThrow(/onLost is 1/);
  });

  it('O5: a value that the port can not carry is refused, and the connection stays', async () => {
    const ports = mutePorts();
    const { engine } = pair(waits);
    const near: BridgePort = {
      ...ports.near,
      postMessage: (message) => ports.near.postMessage(JSON.parse(JSON.stringify(message))),
    };
    const far: BridgePort = {
      ...ports.far,
      postMessage(message) {
        if (JSON.stringify(message).includes('"Blob"')) throw new Error('An object could not be cloned.');
        ports.far.postMessage(message);
      },
    };
    const serving = serveStepfast(engine, near);
    const remote = connectStepfast(far);
    const refused = await failureOf(remote.start('waits', { file: new Blob(['a']) }));
    expect(refused).toMatchObject({ code: 'NOT_SERIALIZABLE' });
    expect((await remote.start('waits')).created).toBe(true);
    await remote.close();
    serving.close();
  });
});

describe('O5: what can not be posted', () => {
  it('is refused to its caller, and the connection stays: a getter in an exported run that throws', async () => {
    const { remote, lost } = pair(waits);
    const cause = new Error('from a getter');
    const hostile = {
      get stepfast() {
        throw cause;
      },
    };
    const running = await remote.start('waits');
    const result = running.result();
    const refused = await failureOf(remote.runs.import(hostile as never));
    expect(refused).toMatchObject({ code: 'NOT_SERIALIZABLE', cause });
    await remote.dispatch('never', 'on');
    expect(await result).toBe('on');
    expect(lost).toEqual([]);
  });

  it('is a lost port where nothing else can be posted either, and the call may have happened or not', async () => {
    const ports = mutePorts();
    const { engine } = pair(waits);
    let isGone = false;
    const far: BridgePort = {
      ...ports.far,
      postMessage(message) {
        if (isGone) throw new Error('Object has been destroyed');
        ports.far.postMessage(message);
      },
    };
    const serving = serveStepfast(engine, ports.near);
    const lost: unknown[] = [];
    const remote = connectStepfast(far, { onLost: (error) => lost.push(error) });
    const running = await remote.start('waits');
    isGone = true;
    expect(await failureOf(running.status())).toMatchObject({ code: 'PORT_LOST' });
    expect(lost).toMatchObject([{ code: 'PORT_LOST', cause: { message: 'Object has been destroyed' } }]);
    serving.close();
  });
});

describe('O2: a page that goes into the back/forward cache takes its dedicated worker with it', () => {
  afterEach(() => vi.unstubAllGlobals());
  /** The global scope of a page, or of a worker. */
  const scope = () => {
    const target = new EventTarget();
    for (const name of ['addEventListener', 'removeEventListener', 'dispatchEvent'] as const)
      vi.stubGlobal(name, target[name].bind(target));
    return target;
  };
  const transition = (kind: string, persisted: boolean) => Object.assign(new Event(kind), { persisted });

  it('the page says so, says that it is back, and its connection lasts', async () => {
    const { connect, said, engine } = overMutePorts();
    await engine.ready(); // it is not in the page
    const page = scope();
    vi.stubGlobal('document', page);
    const remote = connect();
    await remote.ready();
    page.dispatchEvent(transition('pageshow', false)); // as each page does when it is loaded
    expect(said('back', 'engine')).toBe(0);
    page.dispatchEvent(transition('pagehide', true));
    expect(said('away', 'engine')).toBe(1);
    page.dispatchEvent(transition('pageshow', true));
    expect(said('back', 'engine')).toBe(1);
    expect((await remote.start('waits')).created).toBe(true);
    await remote.close();
    page.dispatchEvent(transition('pagehide', true));
    expect(said('away', 'engine')).toBe(1);
  });

  it.each([
    ['Apple Computer, Inc.', 1],
    ['Google Inc.', 0],
    ['', 0],
  ])('the page of a browser by "%s" says before whether it may go, and that it has stayed', async (vendor, times) => {
    const { connect, said, engine } = overMutePorts();
    await engine.ready();
    const page = scope();
    vi.stubGlobal('document', page);
    vi.stubGlobal('navigator', { vendor });
    const remote = connect();
    await remote.ready();
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    page.dispatchEvent(new Event('beforeunload'));
    expect([said('leaving', 'engine'), said('back', 'engine')]).toEqual([times, 0]);
    vi.advanceTimersByTime(10_000);
    expect(said('back', 'engine')).toBe(times);
    vi.useRealTimers();
    await remote.close();
    page.dispatchEvent(new Event('beforeunload'));
    expect(said('leaving', 'engine')).toBe(times);
  });

  it('the worker hears of it as a page would, so that its store leaves no transaction open; no other context does', async () => {
    const { engine } = pair(waits);
    const { port1: near, port2: far } = channel();
    const worker = scope();
    const heard: string[] = [];
    for (const kind of ['beforeunload', 'pagehide', 'pageshow'])
      worker.addEventListener(kind, (event) => heard.push(`${kind} ${(event as PageTransitionEvent).persisted}`));
    const posted: { readonly engine: string; readonly kind: string }[] = [];
    vi.stubGlobal('postMessage', (message: (typeof posted)[0]) => void posted.push(message));
    const servings = [serveStepfast(engine, globalThis as unknown as BridgePort), serveStepfast(engine, near)];
    const message = (kind: string, to?: string) => ({
      ...{ stepfast: 'bridge', v: 1, to: 'engine', client: 'c', kind },
      ...(to !== undefined && { engine: to }),
    });

    const say = (data: unknown) => worker.dispatchEvent(Object.assign(new Event('message'), { data }));
    say(message('hello'));
    for (const kind of ['leaving', 'away', 'back']) say(message(kind, posted.at(-1)!.engine));
    expect(heard).toEqual(['beforeunload true', 'pagehide true', 'pageshow true']);

    const answers: typeof posted = [];
    far.on('message', (answer) => answers.push(answer));
    far.postMessage(message('hello'));
    await eventually(() => answers.some(({ kind }) => kind === 'welcome'));
    for (const kind of ['leaving', 'away', 'back', 'ping']) far.postMessage(message(kind, answers.at(-1)!.engine));
    await eventually(() => answers.some(({ kind }) => kind === 'pong'));
    expect(heard).toHaveLength(3);
    for (const serving of servings) serving.close();
  });
});
