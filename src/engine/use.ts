import type { Store } from '../store/store.js';
import { check, checkStore } from '../values/check.js';
import { isObject } from '../values/kinds.js';
import { heard } from './heard.js';
import type { Committed, Plugin, PluginHost } from './plugin.js';

/*
 * The plug-ins of one engine, as one. What they throw is reported and breaks nothing (spec B), except at creation: then
 * the caller is still there to be told.
 */

const HOOKS = ['store', 'words', 'registered', 'opened', 'closed', 'committed'] satisfies (keyof Plugin)[];

export function checkUse(use: unknown): void {
  check(Array.isArray(use), 'use', use, 'a list of plug-ins');
  for (const plugin of use) {
    const isNamed = typeof plugin?.name === 'string' && plugin.name !== '';
    check(typeof plugin === 'object' && isNamed, 'An entry of use', plugin, 'a plug-in, with a name');
    for (const hook of HOOKS) {
      const fits = plugin[hook] === undefined || typeof plugin[hook] === 'function';
      check(fits, `${hook} of plug-in "${plugin.name}"`, plugin[hook], 'a function, or leave it out');
    }
  }
}

export function createUse(plugins: readonly Plugin[], report: (error: unknown) => void) {
  const each = (call: (plugin: Plugin) => void) => {
    for (const plugin of plugins) heard(() => call(plugin), report);
  };
  return {
    /** The first plug-in is nearest to the engine: the last one wraps the store itself. */
    around: (store: Store): Store =>
      plugins.reduceRight((inner, plugin) => {
        const outer = plugin.store?.(inner) ?? inner;
        checkStore(outer, `What store of plug-in "${plugin.name}" gave`);
        return outer;
      }, store),
    /** Words of all of them, by name; groups of words, such as `runs`, are merged. */
    words(host: PluginHost, target: object): void {
      for (const plugin of plugins)
        for (const [word, value] of Object.entries(plugin.words?.(host) ?? {})) {
          const group = Reflect.get(target, word) as unknown;
          if (isObject(group) && typeof value === 'object') Object.assign(group, value);
          else Reflect.set(target, word, value);
        }
    },
    registered: () => each((plugin) => plugin.registered?.()),
    opened: () => each((plugin) => plugin.opened?.()),
    closed: () => each((plugin) => plugin.closed?.()),
    committed(committed: Committed) {
      if (plugins.length) each((plugin) => plugin.committed?.(committed));
    },
  };
}
