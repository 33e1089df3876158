// The one file that knows Electron: all that it decides is in src/app.ts, which is tested.
import { join } from 'node:path';
import { app, BrowserWindow, MessageChannelMain } from 'electron';
import { runApp } from './dist/app.js';

const here = (name) => join(import.meta.dirname, name);

const openWindow = () => {
  const window = new BrowserWindow({
    width: 480,
    height: 560,
    webPreferences: { preload: here('preload.cjs'), contextIsolation: true, sandbox: true },
  });
  void window.loadFile('index.html');
  return {
    onLoaded: (callback) => window.webContents.on('did-finish-load', callback),
    onClosed: (callback) => window.on('closed', callback),
    send: (port) => window.webContents.postMessage('stepfast-port', null, [port]),
    focus: () => window.focus(),
  };
};

await runApp({
  userData: app.getPath('userData'),
  requestSingleInstanceLock: () => app.requestSingleInstanceLock(),
  ready: () => app.whenReady(),
  onSecondInstance: (callback) => app.on('second-instance', callback),
  onBeforeQuit: (callback) => app.on('before-quit', callback),
  quit: () => app.quit(),
  newChannel: () => new MessageChannelMain(),
  openWindow,
});
