import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'vitest';
import { fileStore } from '../../adapters/file/index.js';
import { storeConformance } from '../../src/testing/conformance.js';

const freshMedium = async () => {
  const dir = await mkdtemp(join(tmpdir(), 'stepfast-conformance-'));
  return Object.assign(() => fileStore({ dir }), { dispose: () => rm(dir, { recursive: true, force: true }) });
};

storeConformance('file', freshMedium, { describe, it });
