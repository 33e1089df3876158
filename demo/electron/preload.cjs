// A port can not cross the bridge between the worlds of a window, a message to the page can carry it.
const { ipcRenderer } = require('electron');

const loaded = new Promise((resolve) => window.addEventListener('load', resolve, { once: true }));
ipcRenderer.on('stepfast-port', async (event) => {
  await loaded;
  window.postMessage('stepfast-port', '*', event.ports);
});
