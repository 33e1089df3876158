// Other engines, each in a folder of its own with its own packages: never among those of stepfast.

const load =
  (folder, name = 'engine') =>
  async () =>
    (await import(`./${folder}/engine.mjs`))[name];
const ofAll = ['W1', 'W2', 'W3'];

/** `node24`: its SQLite is that of Node 24. */
export const PEERS = {
  'openworkflow, SQLite': { folder: 'openworkflow', load: load('openworkflow'), workloads: ofAll, node24: true },
  'tanstack-core on a log': { folder: 'tanstack-core', load: load('tanstack-core'), workloads: ofAll },
  'tanstack-core, memory': { folder: 'tanstack-core', load: load('tanstack-core', 'engineMemory'), workloads: ofAll },
  'durably, SQLite': { folder: 'durably', load: load('durably'), workloads: ['W1', 'W2'], node24: true },
};
