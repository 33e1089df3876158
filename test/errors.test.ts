import { describe, expect, it } from 'vitest';
import {
  EventTimeoutError,
  FatalError,
  isStepfastError,
  RetryableError,
  StepError,
  StepfastError,
} from '../src/errors.js';

// Pins: the classes of errors, their names, which journals keep, and what counts as an error of stepfast.

describe('an error of stepfast', () => {
  it('says its code, what happened, where, and why', () => {
    const cause = new Error('why');
    const place = { job: 'mail', runId: 'r', step: 's', path: '$.a' };
    const error = new StepfastError('STEP_FAILED', 'It failed.', place, { cause });
    expect(error).toBeInstanceOf(Error);
    expect([error.message, error.code, error.cause]).toEqual(['It failed. [STEP_FAILED]', 'STEP_FAILED', cause]);
    expect({ ...error }).toEqual({ code: 'STEP_FAILED', ...place });
    const bare = new StepfastError('CLOSED', 'Closed.');
    expect([{ ...bare }, 'cause' in bare]).toEqual([{ code: 'CLOSED' }, false]);
  });

  it('has a name that does not hang on its class, and shows it', () => {
    expect(`${new StepfastError('CLOSED', 'm')}`).toBe('StepfastError: m [CLOSED]');
    expect(`${new StepError('STEP_FAILED', 'm')}`).toBe('StepError: m [STEP_FAILED]');
    expect(`${new EventTimeoutError('EVENT_TIMEOUT', 'm')}`).toBe('EventTimeoutError: m [EVENT_TIMEOUT]');
    expect(`${new FatalError('m')}`).toBe('FatalError: m');
    expect(`${new RetryableError('m')}`).toBe('RetryableError: m');
    class A extends StepError {}
    expect([new A('STEP_FAILED', 'm').name, Object.keys(new FatalError('m'))]).toEqual(['StepError', []]);
  });

  it('a retryable one says after how long, if it does, and why', () => {
    const cause = new Error('why');
    const error = new RetryableError('busy', { after: '30s', cause });
    expect([error.after, error.cause, error.message]).toEqual(['30s', cause, 'busy']);
    const bare = new RetryableError('busy');
    expect([bare.after, 'cause' in bare]).toEqual([undefined, false]);
    expect(new RetryableError('busy', null as never).after).toBeUndefined(); // who throws it has another failure to tell of
  });
});

describe('isStepfastError', () => {
  it('knows one by its code, or by this code', () => {
    const closed = new StepfastError('CLOSED', 'm');
    expect([isStepfastError(closed), isStepfastError(closed, 'CLOSED')]).toEqual([true, true]);
    expect(isStepfastError(closed, 'LEASE_LOST')).toBe(false);
    expect(isStepfastError(new StepError('STEP_FAILED', 'm'), 'STEP_FAILED')).toBe(true);
  });

  it('knows one of another copy, of another realm, and one that was kept as data', () => {
    expect(isStepfastError({ code: 'CLOSED', message: 'm [CLOSED]' })).toBe(true);
    expect(isStepfastError({ name: 'Error', code: 'CLOSED', message: 'm [CLOSED]' }, 'CLOSED')).toBe(true);
  });

  it('takes no other error for one: neither its code nor its message alone is enough', () => {
    const others = [
      ...[undefined, null, 'CLOSED', 7, {}, new Error('m [CLOSED]'), new FatalError('m'), { message: 'm [undefined]' }],
      ...[
        { code: 'CLOSED' },
        { code: 'CLOSED', message: 'm' },
        { code: 'CLOSED', message: '[CLOSED] m' },
        { code: 'CLOSED', message: { endsWith: () => true } },
      ],
      ...[
        { code: 'ENOENT', message: 'no file [CLOSED]' },
        { code: 7, message: 'm [7]' },
        { code: 'A', message: ['[A]'] },
      ],
    ];
    expect(others.filter((each) => isStepfastError(each))).toEqual([]);
    expect(others.filter((each) => isStepfastError(each, 'CLOSED'))).toEqual([]);
    // A message that says one code, and a code that is another.
    expect(isStepfastError({ code: 'OTHER', message: 'm [CLOSED]' }, 'CLOSED')).toBe(false);
    expect(isStepfastError({ code: 'CLOSED', message: 'm [OTHER]' }, 'CLOSED')).toBe(false);
  });

  it('what can not even be read is none', () => {
    const throwing = {
      get code(): string {
        throw new Error('own');
      },
    };
    const { proxy, revoke } = Proxy.revocable({}, {});
    revoke();
    expect([isStepfastError(throwing), isStepfastError(proxy)]).toEqual([false, false]);
  });
});
