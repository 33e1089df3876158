import { chromium } from './engines/chromium.js';
import { ownership } from './ownership.js';

ownership(chromium);
