// The flame graph on a button.

import { byId } from "./dom.js";

export function flame() {
  byId("flame").hidden = true;
}
