import { encryption } from './encryption.js';
import { chromium } from './engines/chromium.js';

encryption(chromium);
