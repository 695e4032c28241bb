// The results of the search: what they gain when scripts run.
"use strict";
