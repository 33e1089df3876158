import { existsSync, readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { faults } from './prove/bugs/faults.mjs';

/*
 * The table of deliberate faults fits the source: `npm run prove:bugs` takes minutes, and would hear of it too late.
 */

it.each(faults)('the deliberate fault "$name" fits in one place, and names tests that are there', (fault) => {
  const { file, find, instead, by } = fault;
  expect(readFileSync(file, 'utf8').split(find)).toHaveLength(2);
  expect(instead).not.toBe(find);
  for (const words of by) {
    const [path = '', technique = ''] = words.split(' ');
    expect(existsSync(path === 'prove' ? `test/prove/${technique}/index.ts` : path), words).toBe(true);
  }
});

it('no two deliberate faults have one name', () => {
  expect(new Set(faults.map(({ name }) => name)).size).toBe(faults.length);
});
