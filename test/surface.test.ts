import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { builtinModules } from 'node:module';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';
import { describe, expect, it } from 'vitest';

// Pins: the names each entry exports (a new one is a decision), which way imports point, and that the core asks its
// platform, and nothing else, for time, timers, randomness and everything global.

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const filesUnder = (folder: string): string[] =>
  readdirSync(join(root, folder), { withFileTypes: true })
    .flatMap((entry) => {
      const path = `${folder}/${entry.name}`;
      return entry.isDirectory() ? filesUnder(path) : path.endsWith('.ts') ? [path] : [];
    })
    .sort();
const core = filesUnder('src');
const adapters = filesUnder('adapters');
const plugins = filesUnder('plugins');

const { options } = ts.parseJsonConfigFileContent(
  ts.readConfigFile(join(root, 'tsconfig.json'), ts.sys.readFile).config,
  ts.sys,
  root,
);
const program = ts.createProgram(
  [...core, ...adapters, ...plugins].map((file) => join(root, file)),
  options,
);
const checker = program.getTypeChecker();
const sourceOf = (file: string): ts.SourceFile => {
  const source = program.getSourceFile(join(root, file));
  if (!source) throw new Error(`${file} is not there`);
  return source;
};

describe('what each entry exports', () => {
  const entries: Readonly<Record<string, { readonly values: readonly string[]; readonly types: readonly string[] }>> = {
    'src/index.ts': {
      values: [
        'EventTimeoutError',
        'FatalError',
        'RetryableError',
        'StepError',
        'StepfastError',
        'createStepfast',
        'defineEvent',
        'defineJob',
        'isStepfastError',
      ],
      types: [
        'AnyJob',
        'Batch',
        'ChildOptions',
        'Clock',
        'Codec',
        'CommitOutcome',
        'Committed',
        'DefineJob',
        'Deletion',
        'DispatchOptions',
        'DuePage',
        'DueQuery',
        'DueRun',
        'Duration',
        'EngineOptions',
        'ErrorCode',
        'ErrorPlace',
        'EventOutcome',
        'EventRow',
        'EventType',
        'Expiry',
        'ExportOptions',
        'ExportedRun',
        'FailedContext',
        'ForkOptions',
        'Handler',
        'HandlerContext',
        'Job',
        'JobOptions',
        'JournalEntry',
        'Json',
        'ListFilter',
        'ListPage',
        'ListQuery',
        'Lock',
        'Log',
        'MigratedRun',
        'Migration',
        'NewEvent',
        'NewRun',
        'OpenOptions',
        'OpenWait',
        'Platform',
        'Plugin',
        'PluginHost',
        'QueueOptions',
        'Receipt',
        'ReceivedEvent',
        'RecordedError',
        'RetentionOptions',
        'RetryOptions',
        'RunChange',
        'RunError',
        'RunHandle',
        'RunRow',
        'RunSnapshot',
        'RunState',
        'RunStatus',
        'Runs',
        'Schedule',
        'ScheduleOptions',
        'ScheduleStartOptions',
        'Scheduled',
        'SchemaIssue',
        'SharedOutcome',
        'SharedWork',
        'StandardSchema',
        'Start',
        'StartInner',
        'StartOptions',
        'StartOutcome',
        'Started',
        'State',
        'StateChange',
        'StateOutcome',
        'StateRow',
        'Step',
        'StepContext',
        'StepOptions',
        'Stepfast',
        'Store',
        'StoreCapabilities',
        'StoreListener',
        'StoredRun',
        'StoredStatus',
        'TimedOut',
        'TimelineEntry',
        'Transfer',
        'UndoContext',
        'Unique',
        'WaitOptions',
        'WaitingFor',
      ],
    },
    'adapters/memory/index.ts': { values: ['memoryMedium', 'memoryStore'], types: ['MemoryMedium'] },
    'adapters/indexeddb/index.ts': { values: ['addStores', 'indexedDBStore'], types: ['IndexedDBStoreOptions'] },
    'adapters/file/index.ts': { values: ['fileStore'], types: ['FileStoreOptions'] },
    'src/testing/index.ts': {
      values: [
        'conformanceCases',
        'crashEverywhere',
        'failingStore',
        'replay',
        'runConformance',
        'simulatedClock',
        'storeConformance',
        'testRun',
      ],
      types: [
        'ConformanceCase',
        'ConformanceEnv',
        'ConformanceResult',
        'CrashOptions',
        'CrashReport',
        'CrashViolation',
        'FailingStore',
        'FreshMedium',
        'OpenedWait',
        'PlayOptions',
        'ReplayOptions',
        'ReplayReport',
        'ReplayableRun',
        'ReplayedAsk',
        'Scenario',
        'SimulatedClock',
        'StepFake',
        'StoreCall',
        'StoreFault',
        'TestedRun',
        'UndoFake',
      ],
    },
    'plugins/bridge/index.ts': {
      values: ['connectStepfast', 'serveStepfast'],
      types: ['BridgePort', 'ConnectOptions', 'ServeOptions', 'Serving'],
    },
    'plugins/encryption/index.ts': {
      values: ['encryption'],
      types: ['CryptoKeyLike', 'Encryption', 'EncryptionKey', 'EncryptionOptions', 'KeySource', 'KeySubject'],
    },
    'plugins/schedules/index.ts': {
      values: ['schedules'],
      types: [
        'CronClass',
        'Schedule',
        'ScheduleOptions',
        'ScheduleStartOptions',
        'Scheduled',
        'SchedulesOptions',
        'SchedulesWords',
      ],
    },
    'plugins/transfer/index.ts': {
      values: ['transfer'],
      types: [
        'ExportOptions',
        'ExportedRow',
        'ExportedRun',
        'ImportOptions',
        'RedactPlace',
        'Transfer',
        'TransferWords',
      ],
    },
  };

  for (const [entry, expected] of Object.entries(entries))
    it(`${entry} exports the names on the list, and no others`, () => {
      const values: string[] = [];
      const types: string[] = [];
      for (const symbol of checker.getExportsOfModule(checker.getSymbolAtLocation(sourceOf(entry))!)) {
        const target = symbol.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(symbol) : symbol;
        const isTypeOnly = symbol.declarations?.some(
          (node) => ts.isExportSpecifier(node) && (node.isTypeOnly || node.parent.parent.isTypeOnly),
        );
        (target.flags & ts.SymbolFlags.Value && !isTypeOnly ? values : types).push(symbol.name);
      }
      expect(values.sort()).toEqual(expected.values);
      expect(types.sort()).toEqual(expected.types);
    });

  it('an import has no default export and changes nothing that is global', async () => {
    const before = Reflect.ownKeys(globalThis);
    for (const entry of ['src/index.ts', 'adapters/memory/index.ts', 'adapters/indexeddb/index.ts'])
      expect(Object.keys(await import(join(root, entry)))).not.toContain('default');
    expect(Reflect.ownKeys(globalThis)).toEqual(before);
  });
});

describe('which way imports point', () => {
  /** What a file imports: paths from the root for its own, bare names for packages. */
  const importsOf = (file: string): string[] =>
    ts.preProcessFile(readFileSync(join(root, file), 'utf8'), true, true).importedFiles.map(({ fileName }) => {
      if (!fileName.startsWith('.')) return fileName;
      expect(fileName, `${file} imports with the extension .js`).toMatch(/\.js$/);
      const found = relative(root, join(root, dirname(file), fileName)).replace(/\.js$/, '.ts');
      expect(existsSync(join(root, found)), `${file} imports ${found}`).toBe(true);
      return found;
    });
  /** Those of them that are there when the program runs. */
  const codeImportsOf = (file: string): string[] =>
    sourceOf(file).statements.flatMap((statement) => {
      if (!ts.isImportDeclaration(statement) && !ts.isExportDeclaration(statement)) return [];
      const { moduleSpecifier } = statement;
      if (!moduleSpecifier || !ts.isStringLiteral(moduleSpecifier) || !moduleSpecifier.text.startsWith('.')) return [];
      const clause = ts.isImportDeclaration(statement) ? statement.importClause : statement;
      if (!clause || clause.isTypeOnly) return [];
      const names = ts.isImportDeclaration(statement) ? statement.importClause?.namedBindings : statement.exportClause;
      const named = names && (ts.isNamedImports(names) || ts.isNamedExports(names)) ? names.elements : undefined;
      if (named?.every(({ isTypeOnly }) => isTypeOnly)) return [];
      return [relative(root, join(root, dirname(file), moduleSpecifier.text)).replace(/\.js$/, '.ts')];
    });
  const offences = (files: readonly string[], isOffence: (imported: string, file: string) => boolean) =>
    files.flatMap((file) =>
      importsOf(file)
        .filter((imported) => isOffence(imported, file))
        .map((imported) => `${file} imports ${imported}`),
    );
  const isOwn = (imported: string) => imported.endsWith('.ts');
  const isNode = (imported: string) => imported.startsWith('node:') || builtinModules.includes(imported);

  it('the core never imports an adapter, a test or anything else outside of src', () => {
    expect(core.length).toBeGreaterThan(15);
    // Its testing tools play flows in memory unless they are told where.
    const isAllowed = (imported: string, file: string) =>
      imported.startsWith('src/') || (imported === 'adapters/memory/index.ts' && file === 'src/testing/stage.ts');
    expect(offences(core, (imported, file) => isOwn(imported) && !isAllowed(imported, file))).toEqual([]);
  });

  it('the core depends on ms alone', () => {
    const isForeign = (imported: string) => !isOwn(imported) && imported !== 'ms';
    expect(
      offences(
        core.filter((file) => !file.startsWith('src/testing/')),
        isForeign,
      ),
    ).toEqual([]);
  });

  it('nothing but the entry imports system.ts, and nothing of the core imports its entry or its testing tools', () => {
    const inner = core.filter((file) => file !== 'src/index.ts' && !file.startsWith('src/testing/'));
    const isOffence = (imported: string) =>
      imported === 'src/system.ts' || imported === 'src/index.ts' || imported.startsWith('src/testing/');
    expect(offences(inner, isOffence)).toEqual([]);
    expect(importsOf('src/index.ts')).toContain('src/system.ts');
    expect(importsOf('src/index.ts').filter((imported) => imported.startsWith('src/testing/'))).toEqual([]);
  });

  it('the folders of the core are layers: code is imported from below, types from anywhere', () => {
    const layers = ['values', 'store', 'door', 'replay', 'run', 'engine'];
    const rankOf = (file: string) => layers.indexOf(file.split('/')[1]!);
    const inner = core.filter((file) => file.split('/').length > 2 && !file.startsWith('src/testing/'));
    expect(inner.filter((file) => rankOf(file) < 0)).toEqual([]);
    const upwards = inner.flatMap((file) =>
      codeImportsOf(file)
        .filter((imported) => rankOf(imported) > rankOf(file))
        .map((imported) => `${file} imports ${imported}`),
    );
    expect(upwards).toEqual([]);
  });

  it('an adapter never imports another adapter', () => {
    const folderOf = (file: string) => file.split('/')[1];
    expect(adapters.length).toBeGreaterThan(2);
    expect(
      offences(adapters, (imported, file) => imported.startsWith('adapters/') && folderOf(imported) !== folderOf(file)),
    ).toEqual([]);
  });

  it('an adapter never imports the engine, or what drives and replays runs', () => {
    const allowed = /^src\/(store\/|values\/|errors\.ts$|limits\.ts$|platform\.ts$)/;
    expect(offences(adapters, (imported) => imported.startsWith('src/') && !allowed.test(imported))).toEqual([]);
  });

  it('a plug-in imports the core and itself, no adapter, no other plug-in and no package', () => {
    const folderOf = (file: string) => file.split('/').slice(0, 2).join('/');
    const isOffence = (imported: string, file: string) =>
      !imported.startsWith('src/') && !imported.startsWith(`${folderOf(file)}/`);
    expect(plugins.length).toBeGreaterThan(2);
    expect(offences(plugins, isOffence)).toEqual([]);
    expect(
      offences(plugins, (imported) => imported === 'src/system.ts' || imported.startsWith('src/testing/')),
    ).toEqual([]);
  });

  it('an adapter brings no dependency but its own', () => {
    const allowed: Readonly<Record<string, (imported: string) => boolean>> = {
      memory: () => false,
      indexeddb: (imported) => imported === 'idb',
      file: isNode,
    };
    expect(
      offences(adapters, (imported, file) => !isOwn(imported) && !allowed[file.split('/')[1]!]?.(imported)),
    ).toEqual([]);
  });
});

describe('platform globals', () => {
  /** ECMAScript: the same everywhere, and neither time, nor chance, nor the world outside. */
  const language = new Set(
    (
      'Object Array Map Set WeakMap WeakSet Promise Symbol String Number Boolean BigInt RegExp JSON Math Reflect Proxy ' +
      'Error EvalError RangeError ReferenceError SyntaxError TypeError URIError AggregateError Date ArrayBuffer ' +
      'SharedArrayBuffer DataView Int8Array Uint8Array Uint8ClampedArray Int16Array Uint16Array Int32Array Uint32Array ' +
      'Float32Array Float64Array BigInt64Array BigUint64Array Infinity NaN undefined isNaN isFinite parseInt parseFloat ' +
      'encodeURIComponent decodeURIComponent globalThis'
    ).split(' '),
  );

  /** Where a value of the platform is read: identifiers that no file of ours declares, in value positions. */
  function globalsOf(source: ts.SourceFile): string[] {
    const found: string[] = [];
    const report = (node: ts.Node, what: string) => {
      const { line } = source.getLineAndCharacterOfPosition(node.getStart(source));
      found.push(`${relative(root, source.fileName)}:${line + 1} ${what}`);
    };
    const isOurs = (node: ts.Identifier) => {
      const symbol = ts.isShorthandPropertyAssignment(node.parent)
        ? checker.getShorthandAssignmentValueSymbol(node.parent)
        : checker.getSymbolAtLocation(node);
      return symbol?.declarations?.some((declaration) => {
        const file = declaration.getSourceFile();
        return !program.isSourceFileDefaultLibrary(file) && !file.fileName.includes('/@types/node/');
      });
    };
    const check = (node: ts.Identifier) => {
      const name = node.text;
      if (!language.has(name)) return report(node, name);
      const { parent } = node;
      const isRead =
        (ts.isPropertyAccessExpression(parent) || ts.isElementAccessExpression(parent)) && parent.expression === node;
      const member = isRead && ts.isPropertyAccessExpression(parent) ? parent.name.text : isRead ? '[...]' : undefined;
      if (name === 'Date') {
        const isInstant =
          ts.isNewExpression(parent) && parent.expression === node && (parent.arguments?.length ?? 0) > 0;
        const isPure = member === 'UTC' || member === 'parse' || member === 'prototype';
        const isClass = ts.isBinaryExpression(parent) && parent.operatorToken.kind === ts.SyntaxKind.InstanceOfKeyword;
        if (!isInstant && !isPure && !isClass) report(node, `Date${member ? `.${member}` : ''}`);
      }
      // Taking `Math` apart or handing it on would hide `random`.
      if (name === 'Math' && (member === undefined || member === 'random' || member === '[...]'))
        report(node, `Math.${member}`);
      if (name === 'globalThis') report(node, 'globalThis');
    };
    const visit = (node: ts.Node): void => {
      if (ts.isTypeNode(node) && !ts.isExpressionWithTypeArguments(node)) return;
      if (ts.isInterfaceDeclaration(node) || ts.isTypeAliasDeclaration(node) || ts.isModuleDeclaration(node)) return;
      if (ts.isImportDeclaration(node) || ts.isExportDeclaration(node)) return;
      if (ts.isIdentifier(node)) {
        const { parent } = node;
        const isMember =
          (ts.isPropertyAccessExpression(parent) && parent.name === node) ||
          (ts.isPropertyAssignment(parent) && parent.name === node) ||
          (ts.isBindingElement(parent) && parent.propertyName === node);
        if (!isMember && !isOurs(node)) check(node);
      }
      ts.forEachChild(node, visit);
    };
    visit(source);
    return found;
  }

  const scanned = core.filter((file) => file !== 'src/system.ts' && !file.startsWith('src/testing/'));

  it('no file of the core but system.ts touches one', () => {
    const found = scanned.flatMap((file) => globalsOf(sourceOf(file)));
    // The codec takes constructors of ECMAScript from the global object, by a closed list of names.
    const isAllowed = (place: string) => /^src\/values\/decode\.ts:\d+ globalThis$/.test(place);
    expect(found.filter((place) => !isAllowed(place))).toEqual([]);
    expect(found.filter(isAllowed).length).toBeLessThanOrEqual(1);
  });

  it('the scan sees what it looks for', () => {
    const found = globalsOf(sourceOf('src/system.ts')).map((place) => place.split(' ')[1]);
    expect(found).toEqual(
      expect.arrayContaining([
        'Date.now',
        'setTimeout',
        'setImmediate',
        'MessageChannel',
        'Math.random',
        'console',
        'process',
      ]),
    );
    expect(found).toEqual(expect.arrayContaining(['globalThis', 'document', 'addEventListener', 'AbortController']));
  });

  it('the core compiles without the types of any platform', () => {
    const config = ts.readConfigFile(join(root, 'tsconfig.core.json'), ts.sys.readFile).config;
    const parsed = ts.parseJsonConfigFileContent(config, ts.sys, root);
    expect(parsed.fileNames.length).toBeGreaterThan(10);
    const bare = ts.createProgram(parsed.fileNames, parsed.options);
    const said = ts
      .getPreEmitDiagnostics(bare)
      .map(
        ({ file, messageText }) =>
          `${file && relative(root, file.fileName)}: ${ts.flattenDiagnosticMessageText(messageText, ' ')}`,
      );
    expect(said).toEqual([]);
  });
});
