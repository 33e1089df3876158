// Engines by the names of the report. Each is imported only where it is measured: what it loads is its own cost.
import { PEERS } from '../peers/index.mjs';

export const ENGINES = {
  floor: { load: async () => (await import('./floor.mjs')).floor },
  'floor, sync API': { load: async () => (await import('./floor.mjs')).floorSync },
  'floor, memory': { load: async () => (await import('./floor.mjs')).floorMemory },
  'stepfast file': { load: async () => (await import('./stepfast.mjs')).stepfastFile },
  'stepfast file, relaxed': { load: async () => (await import('./stepfast.mjs')).stepfastRelaxed },
  'stepfast memory': { load: async () => (await import('./stepfast.mjs')).stepfastMemory },
  ...PEERS,
};
