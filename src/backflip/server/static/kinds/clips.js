// Two clips on a scale.

export { mount } from "../pair.js";
