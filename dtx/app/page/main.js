// The page that dtx app serves.

import {start} from "./page.js";
import {Server} from "./server.js";

start(new Server());
