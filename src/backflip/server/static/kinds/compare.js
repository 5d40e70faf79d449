// Two answers on a scale.

export { mount } from "../pair.js";
