import { describe, expect, it } from 'vitest';
import { checkEvent, defineEvent } from '../src/door/event.js';
import { checkJob, checkSchema, defineJob, type SchemaIssue, sayIssues, validate } from '../src/door/job.js';
import { checkQueue } from '../src/door/queue.js';
import { perform } from '../src/store/transition/work.js';
import { nameOf } from '../src/values/kinds.js';

// Pins: what users define, jobs, events and queues: what is taken, and of what is refused which option of which job is
// named, and what to give (spec B); what schemas say (spec R11).

const given = (value: unknown) => value as never;
const refusal = (call: () => unknown): { readonly code: string; readonly message: string } | undefined => {
  try {
    call();
  } catch (error) {
    return error as never;
  }
};
const accepted = undefined;
/** A refusal whose message says these, in this order. */
const told = (code: string, ...parts: string[]) => {
  const escaped = parts.map((part) => part.replace(/[$()*+.?[\\\]^{|}]/g, '\\$&'));
  return { code, message: expect.stringMatching(new RegExp(escaped.join('.*'))) };
};
const handler = () => 1;
const schema = (validate: (value: unknown) => unknown = (value) => ({ value })) => ({
  '~standard': { version: 1 as const, vendor: 'test', validate: validate as never },
});

describe('a job', () => {
  const of = (options: object) => refusal(() => defineJob('mail', options, handler));

  it('is a name and a handler, with options between them or without', () => {
    expect(defineJob('mail', handler)).toStrictEqual({ name: 'mail', options: {}, handler });
    expect(defineJob('mail', { version: 2 }, handler)).toStrictEqual({
      name: 'mail',
      options: { version: 2 },
      handler,
    });
  });

  it('is refused where it is none, also when it was made by hand', () => {
    for (const job of [null, undefined, 'mail', handler])
      expect(refusal(() => checkJob(given(job)))).toMatchObject(
        told('INVALID_OPTION', 'The job is', 'Give what defineJob'),
      );
    expect(refusal(() => defineJob('', handler))).toMatchObject(told('INVALID_NAME', 'The name of a job is ""'));
    const byHand = (more: object) => refusal(() => checkJob({ name: 'mail', options: {}, handler, ...more }));
    expect(byHand({})).toBe(accepted);
    for (const options of [null, 5])
      expect(byHand({ options })).toMatchObject(
        told('INVALID_OPTION', `The options of job "mail" is ${options}`, 'Give an object'),
      );
    expect(byHand({ handler: 5 })).toMatchObject(
      told('INVALID_OPTION', 'The handler of job "mail" is 5', 'Give a function'),
    );
  });

  it('takes every option that there is', () => {
    const every = {
      ...{
        payload: schema(),
        result: schema(),
        retry: { maxAttempts: 1 },
        version: 1,
        queue: 'q',
        maxInterruptions: 1,
      },
      ...{ timeout: '1h', retention: '1d', onFailed: () => undefined, upgrade: 'migrate', migrate: () => ({}) },
    } as const;
    expect(of(every)).toBe(accepted);
    for (const upgrade of ['continue', 'restart', 'abandon', 'block']) expect(of({ upgrade })).toBe(accepted);
    for (const retention of [Infinity, 0, {}, { completed: '1d', failed: Infinity, cancelled: undefined }])
      expect(of({ retention })).toBe(accepted);
    const queue = {
      name: 'q',
      concurrency: 2,
      rateLimit: { limit: 1, per: '1s' },
      priority: -1,
      debounce: { delay: 5 },
    };
    expect(of({ queue })).toBe(accepted);
  });

  it.each<[object, string, string, string?]>([
    [{ retires: 1 }, 'An option in the options of job "mail" is "retires"', 'Give payload, result, retry'],
    [{ payload: {} }, 'payload of job "mail" is an object', 'Standard Schema'],
    [{ result: handler }, 'result of job "mail" is a function', 'Standard Schema'],
    [new Map([['version', 2]]), 'The options of job "mail" is an object', 'a plain object'],
    [{ retry: new Map([['maxAttempts', 2]]) }, 'retry of job "mail" is an object', 'a plain object'],
    [{ queue: new Date() }, 'queue of job "mail" is an object', 'a plain object'],
    [{ retry: { attempts: 1 } }, 'retry of job "mail" is "attempts"', 'maxAttempts'],
    [{ version: 0 }, 'version of job "mail" is 0', 'at least 1'],
    [{ maxInterruptions: 0 }, 'maxInterruptions of job "mail" is 0', 'at least 1'],
    [{ queue: 5 }, 'queue of job "mail" is 5', 'a name or an object'],
    [{ timeout: 0 }, 'timeout of job "mail" is 0', 'longer than nothing', 'INVALID_DURATION'],
    [{ retention: 'long' }, 'retention of job "mail" is "long"', '', 'INVALID_DURATION'],
    [{ retention: null }, 'retention of job "mail" is null', '', 'INVALID_DURATION'],
    [{ retention: { ended: 5 } }, 'An option in retention of job "mail" is "ended"', 'completed, failed, cancelled'],
    [{ retention: { retention: '1d' } }, 'An option in retention of job "mail" is "retention"', 'completed, failed'],
    [{ retention: ['1d'] }, 'retention of job "mail" is', 'a plain object'],
    [{ retention: { failed: 'long' } }, 'retention.failed of job "mail" is "long"', '', 'INVALID_DURATION'],
    [{ onFailed: 5 }, 'onFailed of job "mail" is 5', 'a function, or leave it out'],
    [{ migrate: 'up' }, 'migrate of job "mail" is "up"', 'a function, or leave it out'],
    [{ upgrade: 'never' }, 'upgrade of job "mail" is "never"', 'one of continue, restart, migrate, abandon, block'],
    [{ upgrade: 'migrate' }, 'upgrade of job "mail" is "migrate"', 'migrate (a function) beside it'],
  ])('is refused with %j', (options, what, wanted, code = 'INVALID_OPTION') => {
    expect(of(options)).toMatchObject(told(code, what, wanted));
  });
});

it('the retention of a job is named as it was given: one duration, or that of an end', () => {
  const said = (retention: unknown) =>
    refusal(() => defineJob('mail', { retention: given(retention) }, handler))?.message;
  expect(said('long')).toMatch(/^retention of job "mail" is "long"/);
  expect(said({ failed: 'long' })).toMatch(/^retention\.failed of job "mail" is "long"/);
});

describe('a queue', () => {
  const of = (queue: unknown) => refusal(() => checkQueue(queue, (option) => `${option} of job "mail"`));
  const named = (more: object) => of({ name: 'q', ...more });

  it('is a name, or an object that has one', () => {
    expect([of('q'), of({ name: 'q' })]).toEqual([accepted, accepted]);
    for (const queue of [null, 5, true])
      expect(of(queue)).toMatchObject(told('INVALID_OPTION', `queue of job "mail" is ${queue}`, 'a name or an object'));
    for (const queue of ['', {}]) expect(of(queue)).toMatchObject(told('INVALID_NAME', 'the queue of job "mail" is'));
  });

  it('takes every option that there is', () => {
    const key = () => 'k';
    for (const more of [
      { concurrency: 1, priority: 0, rateLimit: { limit: 1_000, per: 1 } },
      ...[{ debounce: { delay: '1s', key } }, { debounce: { delay: 1 }, singleton: undefined }],
      ...[{ singleton: true }, { singleton: { key } }],
    ])
      expect(named(more)).toBe(accepted);
  });

  it.each<[object, string, string, string?]>([
    [{ concurency: 1 }, 'An option in queue of job "mail" is "concurency"', 'concurrency'],
    [{ concurrency: 0 }, 'queue.concurrency of job "mail" is 0', 'at least 1'],
    [{ priority: 0.5 }, 'queue.priority of job "mail" is 0.5', 'an integer'],
    [{ rateLimit: 5 }, 'queue.rateLimit of job "mail" is 5', 'a plain object'],
    [{ rateLimit: { limits: 1 } }, 'in queue.rateLimit of job "mail" is "limits"', 'limit, per'],
    [{ rateLimit: { limit: 0, per: 1 } }, 'queue.rateLimit.limit of job "mail" is 0', 'at least 1'],
    [{ rateLimit: { limit: 1_001, per: 1 } }, 'queue.rateLimit.limit of job "mail" is 1001', 'at most 1000'],
    [{ rateLimit: { limit: 1, per: 0 } }, 'queue.rateLimit.per of job "mail" is 0', 'longer', 'INVALID_DURATION'],
    [{ debounce: { dely: 1 } }, 'in queue.debounce of job "mail" is "dely"', 'delay, key'],
    [{ debounce: { delay: 0 } }, 'queue.debounce.delay of job "mail" is 0', 'longer', 'INVALID_DURATION'],
    [{ debounce: { delay: 1, key: 'k' } }, 'queue.debounce.key of job "mail" is "k"', 'a function of the payload'],
    [{ debounce: { delay: 1 }, singleton: true }, 'queue.debounce of job "mail" is an object', 'not both'],
    [{ singleton: false }, 'queue.singleton of job "mail" is false', 'a plain object'],
    [{ singleton: { kee: 1 } }, 'in queue.singleton of job "mail" is "kee"', 'key'],
    [{ singleton: {} }, 'queue.singleton.key of job "mail" is undefined', 'a function of the payload'],
  ])('is refused with %j', (more, what, wanted, code = 'INVALID_OPTION') => {
    expect(named(more)).toMatchObject(told(code, what, wanted));
  });
});

describe('an event', () => {
  it('is defined by a name and a schema', () => {
    const made = schema();
    expect(defineEvent('paid', made)).toStrictEqual({ name: 'paid', schema: made });
    expect(refusal(() => defineEvent('', made))).toMatchObject(told('INVALID_NAME', 'The name of an event is ""'));
    expect(refusal(() => defineEvent('paid', given({})))).toMatchObject(
      told('INVALID_OPTION', 'The schema of event "paid" is an object', 'Standard Schema'),
    );
  });

  it('is given by its name or by its definition', () => {
    expect([nameOf('paid'), nameOf(defineEvent('paid', schema()))]).toEqual(['paid', 'paid']);
    for (const none of [null, undefined, 5]) expect(nameOf(given(none))).toBe(none);
  });
});

describe('a schema', () => {
  const result = (made: ReturnType<typeof schema> | undefined, value: unknown = 'v') =>
    perform(validate(made, value, 'The payload'));

  it('is an object or a function that can validate', () => {
    expect(refusal(() => checkSchema(schema(), 'payload'))).toBe(accepted);
    expect(refusal(() => checkSchema(given(Object.assign(() => 1, schema())), 'payload'))).toBe(accepted);
    for (const none of [undefined, null, 'x', { '~standard': {} }, { '~standard': { validate: 5 } }])
      expect(refusal(() => checkSchema(given(none), 'payload'))).toMatchObject(
        told('INVALID_OPTION', 'payload is', 'Give a Standard Schema'),
      );
  });

  it('R11: gives what it makes of a value, at once or later; where there is none the value is as it was', async () => {
    expect(result(undefined)).toBe('v');
    expect(result(schema((value) => ({ value: `${value}!` })))).toBe('v!');
    expect(await result(schema(async (value) => ({ value: `${value}!` })))).toBe('v!');
    expect(result(schema(() => ({ value: undefined })))).toBeUndefined();
  });

  it('R11: that does not take a value says where it does not fit, and one that throws is the cause', async () => {
    const issues: SchemaIssue[] = [{ message: 'too short', path: ['user', { key: 0 }] }, { message: 'odd' }];
    const error = refusal(() => result(schema(() => ({ issues }))));
    expect(error).toMatchObject({ ...told('INVALID_PAYLOAD', 'The payload does not fit its schema'), issues });
    expect(error?.message).toContain('at $.user[0], $: `issues`, which are not recorded, say why. Give one that fits;');
    const cause = new Error('schema');
    const throwing = schema(() => {
      throw cause;
    });
    const thrown = { ...told('INVALID_PAYLOAD', 'The payload could not be checked', 'nothing was written'), cause };
    expect(refusal(() => result(throwing))).toMatchObject(thrown);
    const silent = { ...thrown, cause: new TypeError('It gave neither a `value` nor `issues`.') };
    expect(refusal(() => result(schema(() => undefined as never)))).toMatchObject(silent);
    const rejecting = schema(() => Promise.reject(cause));
    await expect(result(rejecting)).rejects.toMatchObject(thrown);
  });

  it('V4: of what it has found the places are said, each once, and not its words, which may quote the value', () => {
    const found = [
      { message: 'a', path: [] },
      { message: 'b', path: ['x', Symbol('s')] },
      { message: 'c', path: ['list', 2, { key: 'a key' }] },
      { message: 'd' },
    ];
    expect(sayIssues(found)).toBe('does not fit its schema at $, $.x[Symbol(s)], $.list[2]["a key"]');
  });
});

it('B: an event is a name, or has a schema: what looks like a checked one and is none is refused', () => {
  expect(() => checkEvent('go')).not.toThrow();
  expect(() => checkEvent(defineEvent('go', schema() as never))).not.toThrow();
  expect(() => checkEvent({ name: 'go' } as never)).toThrow(/^The schema of event "go" is undefined/);
  expect(() => checkEvent({ name: '' } as never)).toThrow(/INVALID_NAME/);
});
