/*
 * An engine in one context, used from another over a port (spec O5): a page and its worker, an Electron window and the main
 * process, two threads of Node.
 */

export { type ConnectOptions, connectStepfast } from './connect.js';
export type { BridgePort } from './port.js';
export { type ServeOptions, type Serving, serveStepfast } from './serve.js';
