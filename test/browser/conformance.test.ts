import { conformance } from './conformance.js';
import { chromium } from './engines/chromium.js';

conformance(chromium, ['page', 'worker']);
