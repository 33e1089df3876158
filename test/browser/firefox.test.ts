import { firefox } from './engines/firefox.js';
import { others } from './others.js';

others(firefox);
