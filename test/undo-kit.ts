import { FatalError, type Stepfast } from '../src/index.js';
import type { World } from './harness.js';

// What tests of undoing share.

export const kindsOf = async (stepfast: Stepfast, id: string, kinds: RegExp) =>
  (await stepfast.runs.timeline(id))
    .filter(({ kind }) => kinds.test(kind))
    .map(({ kind, name, occurrence }) => `${kind} ${name}${occurrence === 1 ? '' : ` ${occurrence}`}`);

/** Takes back what a step has logged. */
export const logged = (w: World, name: string, result: unknown = name.toUpperCase()) =>
  [
    name,
    () => {
      w.log.push(name);
      return result;
    },
    { undo: (context: { readonly result: unknown }) => void w.log.push(`undo ${context.result}`) },
  ] as const;
export const fatal = () => {
  throw new FatalError('no way');
};
