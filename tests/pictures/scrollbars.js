// The package's default export, which a bundler that follows Node.js does not find from an .mjs file.
export { Scrollbars as default } from "./node_modules/react-custom-scrollbars-2/lib/index.js";
