import { chromium } from './engines/chromium.js';
import { releases } from './releases.js';

releases(chromium);
