// What the commands of this project set up for themselves: packages by npm, Debian's browsers where it is permitted.
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';

/** Runs a command with its output shown; true when it ended well. */
export const run = (command, args, options = {}) =>
  spawnSync(command, args, { stdio: 'inherit', shell: process.platform === 'win32', ...options }).status === 0;

/** Installs the packages of the lock file when they are missing or not those of the lock file. */
export function ensurePackages() {
  const installed = 'node_modules/.package-lock.json';
  const wanted = JSON.parse(readFileSync('package-lock.json', 'utf8')).packages;
  const found = existsSync(installed) ? JSON.parse(readFileSync(installed, 'utf8')).packages : {};
  const isCurrent = Object.entries(wanted).every(
    ([path, { version, optional }]) => path === '' || optional || found[path]?.version === version,
  );
  if (isCurrent) return;
  console.log('== packages');
  if (!run('npm', ['ci', '--no-audit', '--no-fund'])) throw new Error('npm ci failed.');
}

const PLACES = {
  chromium: () => [
    process.env.STEPFAST_CHROMIUM,
    '/usr/bin/chromium',
    '/usr/bin/chromium-browser',
    '/usr/bin/google-chrome',
    '/Applications/Google Chrome.app/Contents/MacOS/Google Chrome',
    '/Applications/Chromium.app/Contents/MacOS/Chromium',
  ],
  firefox: () => [
    process.env.STEPFAST_FIREFOX,
    '/usr/bin/firefox-esr',
    '/usr/bin/firefox',
    '/Applications/Firefox.app/Contents/MacOS/firefox',
  ],
  // Its small browser comes with the driver; it can only be driven on a display of its own.
  webkit: () => [
    process.env.STEPFAST_WEBKIT,
    ...(existsSync('/usr/bin/Xvfb') ? readdirSync('/usr/lib') : []).map(
      (name) => `/usr/lib/${name}/webkit2gtk-4.1/MiniBrowser`,
    ),
  ],
};
const PACKAGES = {
  chromium: ['chromium'],
  firefox: ['firefox-esr'],
  webkit: ['webkit2gtk-driver', 'xvfb', 'dbus'],
};

/** The engines that the tests know. */
export const ENGINES = Object.keys(PLACES);

/** The browser of that engine to test with, or `undefined`. */
export const findBrowser = (engine) => PLACES[engine]().find((place) => place && existsSync(place));
export const findChromium = () => findBrowser('chromium');

/** What to do where the browser of an engine is not found. */
export const howToInstall = (engine) =>
  `Install it (Debian: apt-get install ${PACKAGES[engine].join(' ')}), or name it in STEPFAST_${engine.toUpperCase()}.`;

/** Installs those browsers from Debian, if this is Debian and we may; whoever wants to know whether it worked looks. */
export function installBrowsers(engines) {
  if (!engines.length) return;
  if (process.platform !== 'linux' || process.getuid?.() !== 0 || !existsSync('/usr/bin/apt-get')) return;
  console.log(`== ${engines.join(', ')}`);
  run('apt-get', ['update', '-qq']);
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  const install = ['install', '-y', '-qq', '--no-install-recommends'];
  run('apt-get', [...install, ...engines.flatMap((engine) => PACKAGES[engine])], { env });
}

export function installChromium() {
  installBrowsers(['chromium']);
  return findChromium();
}
