import { contexts } from './contexts.js';
import { chromium } from './engines/chromium.js';

contexts(chromium);
