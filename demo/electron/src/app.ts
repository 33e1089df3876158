import { appendFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createStepfast, type Stepfast } from 'stepfast';
import { type BridgePort, serveStepfast } from 'stepfast/bridge';
import { fileStore } from 'stepfast/file';
import { publishing } from './drafts.js';

/*
 * The main process. The engine lives here, with its runs in files: windows come and go, and use it over a port each.
 */

/** What of Electron the app needs, so that it can be tested without. */
export interface Desktop {
  readonly userData: string;
  requestSingleInstanceLock(): boolean;
  ready(): Promise<unknown>;
  onSecondInstance(callback: () => void): void;
  onBeforeQuit(callback: (event: { preventDefault(): void }) => void): void;
  quit(): void;
  newChannel(): { readonly port1: BridgePort; readonly port2: unknown };
  openWindow(): DesktopWindow;
}

export interface DesktopWindow {
  /** Called at each load: also when the user reloads the window. */
  onLoaded(callback: () => void): void;
  onClosed(callback: () => void): void;
  send(port: unknown): void;
  focus(): void;
}

/** Opens a window, and serves the engine to each page that is loaded in it. */
function open(desktop: Desktop, stepfast: Stepfast): DesktopWindow {
  const window = desktop.openWindow();
  let stop: () => void = () => undefined;
  window.onLoaded(() => {
    stop(); // the page before has gone
    const { port1, port2 } = desktop.newChannel();
    stop = serveStepfast(stepfast, port1).close;
    window.send(port2);
  });
  window.onClosed(() => stop());
  return window;
}

/** Closes the engine before the app ends: runs and folder are let go of, and nothing counts as a crash. */
function flushBeforeQuit(desktop: Desktop, stepfast: Stepfast): void {
  let isFlushed = false;
  desktop.onBeforeQuit((event) => {
    if (isFlushed) return;
    event.preventDefault();
    void stepfast.close().finally(() => {
      isFlushed = true;
      desktop.quit();
    });
  });
}

/** Runs the app, in the one instance that may. Resolves once its windows are open. */
export async function runApp(desktop: Desktop): Promise<void> {
  // Two instances would share a folder that one process drives; the second one shows the windows of the first.
  if (!desktop.requestSingleInstanceLock()) return desktop.quit();
  const stepfast = createStepfast({ store: fileStore({ dir: join(desktop.userData, 'runs') }) });
  const published = join(desktop.userData, 'published.txt');
  stepfast.register(publishing((title, key) => appendFile(published, `${title} (${key})\n`)));
  flushBeforeQuit(desktop, stepfast);
  await desktop.ready();
  await stepfast.ready();
  const [first] = [open(desktop, stepfast), open(desktop, stepfast)];
  desktop.onSecondInstance(() => first.focus());
}
