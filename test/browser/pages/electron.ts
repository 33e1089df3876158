import '../../../demo/electron/src/window.js';
import { indexedDBStore } from '../../../adapters/indexeddb/index.js';
import { publishing } from '../../../demo/electron/src/drafts.js';
import { serveStepfast } from '../../../plugins/bridge/index.js';
import { createStepfast } from '../../../src/index.js';

/*
 * The window of the Electron demo, as it is, in a page that plays the main process and the preload script: an engine at the
 * other end of a channel, whose port comes in a message to the page.
 */

document.body.innerHTML = `
  <form id="new"><input name="title" required><button type="submit">Ask</button></form>
  <ul id="drafts"></ul><p id="problem"></p>`;
const stepfast = createStepfast({ store: indexedDBStore({ name: 'electron' }) });
const published: string[] = [];
stepfast.register(publishing((title) => void published.push(title)));
const { port1, port2 } = new MessageChannel();
const serving = serveStepfast(stepfast, port1);
postMessage('stepfast-port', '*', [port2]);

const tools = { published, stop: () => serving.close() };
declare global {
  var desktop: typeof tools;
}
globalThis.desktop = tools;
