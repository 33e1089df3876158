import { openFloor } from '../floor.mjs';
import { journey } from '../journey.mjs';

const open = (flush) => async (dir) => {
  const handler = ({ payload, run, wait }) => journey(payload, run, wait);
  const floor = openFloor({ dir, flush, handler });
  return {
    ...floor,
    recorded: async (id) => floor.recorded(id),
    // Nothing of what is under way is waited for: the floor has no such feature.
    close: async () => floor.close(),
  };
};

export const floor = { flush: 'pool', durability: 'fsync before a step resolves', open: open('pool') };
export const floorSync = { flush: 'sync', durability: 'fsync before a step resolves', open: open('sync') };
export const floorMemory = { flush: 'none', durability: 'none', open: open('none') };
