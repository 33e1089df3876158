// The app's own code, for the main process and for the windows, each as one file.
import { build } from 'esbuild';

const common = { bundle: true, format: 'esm', target: 'es2022', outdir: 'dist', absWorkingDir: import.meta.dirname };
await build({ ...common, entryPoints: ['src/app.ts'], platform: 'node', external: ['electron'] });
await build({ ...common, entryPoints: ['src/window.ts'], platform: 'browser' });
