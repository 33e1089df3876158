import { chromium } from './engines/chromium.js';
import { flow } from './flow.js';

flow(chromium);
