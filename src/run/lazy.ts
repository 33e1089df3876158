import type { State } from '../door/state.js';
import type { Log } from './log.js';

/*
 * What a handler, or the function of a step, is given and seldom asks for is made when it asks. These are own properties, so
 * that `{ ...context }` has them, and their getters are shared: those of a literal are new each time, and V8 makes a hidden
 * class for each such object (1 µs and 400 bytes, and whatever reads it is slow).
 */

interface Given {
  readonly state: State;
  readonly log: Log;
  readonly signal: AbortSignal;
}
type Makers = { readonly [Name in keyof Given]: () => Given[Name] };

const MAKERS = Symbol('makers');
const getterOf = (name: keyof Given): PropertyDescriptor => ({
  enumerable: true,
  get(this: { readonly [MAKERS]: Makers }) {
    return this[MAKERS][name]();
  },
});
const state = getterOf('state');
const log = getterOf('log');
const signal = getterOf('signal');

/** Adds state, log and signal to a context: read again, they are made again, unless their makers remember. */
export function withLazy<Own extends object>(own: Own, makers: Makers): Own & Given {
  Object.defineProperty(own, MAKERS, { value: makers });
  Object.defineProperty(own, 'state', state);
  Object.defineProperty(own, 'log', log);
  Object.defineProperty(own, 'signal', signal);
  return own as never;
}
