import { launchChromium } from './engines/chromium.js';
import { ownership } from './ownership.js';

ownership('chromium', launchChromium, ['show', 'crash', 'freeze', 'thaw', 'suspend', 'wake']);
