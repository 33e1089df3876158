/*
 * What can go wrong at an operation of a store, and when it does. A case is written as text, such as
 * `file/onboarding/torn@7+kill@12`: medium, flow, faults in a row; the number counts the operations that the fault can
 * strike, from the one before on.
 */

/** What is left of the medium when the context dies. */
export type Keep = 'all' | 'torn' | 'synced' | 'names';

export type Action =
  /** The context dies. `synced`: with power, so that only what was synced is left; `names`: names are, unsynced bytes not. */
  | { readonly kind: 'die'; readonly when: 'before' | 'after'; readonly keep: Keep }
  | { readonly kind: 'fail'; readonly when: 'before' | 'after'; readonly code: 'broken' | 'full' }
  /** Fewer bytes are written than were asked for. */
  | { readonly kind: 'short' };

export interface Mode {
  /** The operations it can strike. */
  readonly on: readonly string[];
  readonly action: Action;
  /** So many operations fail before all is well again. Default 1. */
  readonly lasts?: number;
  /** Tried at one operation in so many, another one for each flow: what takes longest and differs least. Default 1. */
  readonly stride?: number;
}

const WRITES = ['commit', 'transact'] as const;
const CALLS = ['open', ...WRITES, 'due', 'load', 'list', 'state'] as const;
/** Enough for every way in which the engine tries again to fail more than once. */
const LONG = 6;

const die = (when: 'before' | 'after', keep: Keep = 'all'): Action => ({ kind: 'die', when, keep });
const fail = (when: 'before' | 'after', code: 'broken' | 'full' = 'broken'): Action => ({ kind: 'fail', when, code });

/** Of any store, at its methods. A death at a read leaves what a death at the next write does, so it is not a case. */
export const STORE_MODES: Readonly<Record<string, Mode>> = {
  'crash-before': { on: WRITES, action: die('before') },
  'crash-after': { on: WRITES, action: die('after') },
  'error-once': { on: CALLS, action: fail('before') },
  'error-long': { on: CALLS, action: fail('before'), lasts: LONG },
  'answer-lost': { on: ['open', ...WRITES], action: fail('after') },
  'answers-lost': { on: ['open', ...WRITES], action: fail('after'), lasts: LONG },
  'quota-once': { on: WRITES, action: fail('before', 'full') },
  'quota-long': { on: WRITES, action: fail('before', 'full'), lasts: LONG },
};

const thinned = (name: string, stride: number) => ({ [name]: { ...STORE_MODES[name]!, stride } });

/** Of IndexedDB, inside its transactions as well. */
export const DATABASE_MODES: Readonly<Record<string, Mode>> = {
  ...STORE_MODES,
  ...thinned('error-long', 3),
  ...thinned('answers-lost', 3),
  ...thinned('quota-long', 3),
  aborted: { on: ['put', 'delete'], action: fail('before', 'full') },
};

const NAMES = ['create', 'rename', 'link', 'unlink'] as const;
const CHANGES = [...NAMES, 'write', 'truncate'] as const;
const SYNCS = ['sync', 'datasync', 'sync-folder'] as const;

const DISK_CALLS = [...CHANGES, ...SYNCS, 'open', 'read', 'stat', 'chmod'] as const;
const GROWS = ['create', 'link', 'write', 'sync', 'datasync'] as const;

/** Of files, at each call of the disk. */
export const DISK_MODES: Readonly<Record<string, Mode>> = {
  kill: { on: CHANGES, action: die('before') },
  torn: { on: ['write'], action: die('before', 'torn') },
  'power-loss': { on: [...CHANGES, ...SYNCS], action: die('before', 'synced') },
  'data-loss': { on: [...CHANGES, ...SYNCS], action: die('before', 'names') },
  'error-once': { on: DISK_CALLS, action: fail('before'), stride: 2 },
  'error-long': { on: DISK_CALLS, action: fail('before'), lasts: LONG, stride: 5 },
  'full-once': { on: GROWS, action: fail('before', 'full') },
  'full-long': { on: GROWS, action: fail('before', 'full'), lasts: LONG, stride: 3 },
  short: { on: ['write'], action: { kind: 'short' } },
};

export interface Fault {
  readonly mode: string;
  readonly at: number;
}

export const textOf = (faults: readonly Fault[]): string => faults.map(({ mode, at }) => `${mode}@${at}`).join('+');

export const faultsOf = (text: string): Fault[] =>
  text.split('+').map((each) => {
    const [mode = '', at] = each.split('@');
    return { mode, at: Number(at) };
  });

/** Decides at each operation whether a fault strikes it. */
export interface Injector {
  meet(operation: string): Action | undefined;
  /** Nothing fails any more, though the context may still die: what is looked at in the end is looked at in peace. */
  heal(): void;
  /** How many of the faults have struck. */
  readonly struck: number;
  /** Operations since the last fault, by the modes that could strike them: what the next fault can be placed at. */
  readonly counts: ReadonlyMap<string, number>;
  readonly deaths: number;
}

export function createInjector(modes: Readonly<Record<string, Mode>>, faults: readonly Fault[]): Injector {
  const state = { struck: 0, deaths: 0, counts: new Map<string, number>() };
  let index = 0;
  let left: number | undefined;
  return Object.assign(state, {
    heal() {
      if (index < faults.length && modes[faults[index]!.mode]!.action.kind === 'fail') index = faults.length;
      left = undefined;
    },
    meet(operation: string) {
      if (process.env.CRASH_TRACE) console.error('op', operation, index, state.struck, left);
      for (const [name, { on }] of Object.entries(modes))
        if (on.includes(operation)) state.counts.set(name, (state.counts.get(name) ?? 0) + 1);
      const fault = faults[index];
      const mode = fault && modes[fault.mode];
      if (!mode?.on.includes(operation)) return undefined;
      if (left === undefined) {
        if (state.counts.get(fault!.mode)! < fault!.at) return undefined;
        left = mode.lasts ?? 1;
        state.struck++;
      }
      if (--left === 0) {
        index++;
        left = undefined;
        state.counts = new Map();
      }
      if (mode.action.kind === 'die') state.deaths++;
      return mode.action;
    },
  });
}
