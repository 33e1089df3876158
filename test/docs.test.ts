import { readFileSync } from 'node:fs';
import ts from 'typescript';
import { describe, expect, it } from 'vitest';

/*
 * What the README and the guide show compiles, and what they name exists. Blocks of one page build on each other; a block
 * that declares a name again stands in a scope of its own.
 */

const root = new URL('..', import.meta.url).pathname;
const preamble = `
declare const api: {
  createUser(email: string, key: string): Promise<{ id: string }>;
  sendMail(to: string): Promise<void>;
  unlock(id: string, code: string): Promise<void>;
  charge(orderId: string, key: string): Promise<'paid' | 'declined' | 'busy'>;
};
declare function createUser(user: { id: string; email: string }): Promise<{ id: string; email: string }>;
declare function sendVerificationEmail(email: string): Promise<void>;
declare function unlockAccount(userId: string): Promise<void>;
`;

const blocksOf = (page: string): string[] =>
  [...readFileSync(`${root}${page}`, 'utf8').matchAll(/^```ts\n(.*?)^```$/gms)].map(([, code]) => code!);

function programOf(blocks: readonly string[]): string {
  const imports = new Set<string>();
  const bodies = blocks.map((block, index) => {
    const body = block.replace(/^import .*?;$/gm, (line) => {
      imports.add(line);
      return '';
    });
    return index === 0 || !/^const (run|event|userOnboarding)\b/m.test(body) ? body : `{\n${body}\n}`;
  });
  return [...imports, preamble, ...bodies, 'export {};'].join('\n');
}

function errorsOf(source: string): string[] {
  const { config } = ts.readConfigFile(`${root}tsconfig.json`, ts.sys.readFile);
  const { options } = ts.parseJsonConfigFileContent(config, ts.sys, root);
  const name = `${root}test/docs-of-a-page.ts`;
  const host = ts.createCompilerHost(options);
  const { readFile, fileExists, getSourceFile } = host;
  host.fileExists = (file) => file === name || fileExists(file);
  host.readFile = (file) => (file === name ? source : readFile(file));
  host.getSourceFile = (file, language) =>
    file === name ? ts.createSourceFile(file, source, language) : getSourceFile(file, language);
  const program = ts.createProgram([name], options, host);
  return ts.getPreEmitDiagnostics(program).map(({ messageText }) => ts.flattenDiagnosticMessageText(messageText, '\n'));
}

describe('documentation', () => {
  for (const page of ['README.md', 'docs/guide.md'])
    it(`every snippet of ${page} compiles`, () => {
      const blocks = blocksOf(page);
      expect(blocks.length).toBeGreaterThan(1);
      expect(errorsOf(programOf(blocks))).toEqual([]);
    });

  it('a snippet that does not compile would be noticed', () => {
    expect(errorsOf(programOf(["const days: number = 'seven';"]))).not.toEqual([]);
  });

  it('links between the pages lead somewhere', () => {
    for (const page of ['README.md', 'ARCHITECTURE.md']) {
      const text = readFileSync(`${root}${page}`, 'utf8');
      for (const [, target] of text.matchAll(/\]\(([^)#:]+)\)/g))
        expect(
          ts.sys.fileExists(`${root}${target}`) || ts.sys.directoryExists(`${root}${target}`),
          `${page}: ${target}`,
        ).toBe(true);
    }
  });

  it('the README shows the flow that the tests run', () => {
    const flow = readFileSync(`${root}test/fixtures/section-0.txt`, 'utf8').trim();
    expect(readFileSync(`${root}README.md`, 'utf8')).toContain(flow);
  });
});
