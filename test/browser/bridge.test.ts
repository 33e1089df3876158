import { bridge } from './bridge.js';
import { chromium } from './engines/chromium.js';

bridge(chromium);
