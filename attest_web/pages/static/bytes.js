/** Conversions between bytes and text, and WebCrypto's functions on bytes. */

import { FailedError, NotMadeError } from "./checks.js";

/** @param {Uint8Array} bytes */
export function toHex(bytes) {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * @param {string} text - Hex digits, with or without 0x.
 * @param {string} what - For the error.
 * @returns {Uint8Array<ArrayBuffer>}
 */
export function fromHex(text, what) {
  const digits = typeof text === "string" ? text.replace(/^0x/, "") : null;
  if (digits === null || digits.length % 2 || /[^0-9a-f]/i.test(digits)) throw new FailedError(`${what} is not hex`);
  return Uint8Array.from({ length: digits.length / 2 }, (_, at) => parseInt(digits.slice(2 * at, 2 * at + 2), 16));
}

/**
 * Decode hex digits without a prefix.
 * @param {unknown} text
 * @param {string} what - For the error.
 * @returns {Uint8Array<ArrayBuffer>}
 */
export function bytesOfHex(text, what) {
  if (typeof text === "string" && text.startsWith("0x")) throw new FailedError(`${what} is not hex`);
  return fromHex(text, what);
}

/** @param {string} text - Base64. */
export function fromBase64(text) {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}

/** Whether this page may use WebCrypto: browsers allow it only over https and on localhost. */
export const hasCrypto = globalThis.crypto?.subtle !== undefined;

function subtle() {
  if (!hasCrypto) throw new NotMadeError("your browser lets a page do this only over https, or from your own machine");
  return crypto.subtle;
}

/** @param {Uint8Array<ArrayBuffer>} bytes */
export async function sha256Hex(bytes) {
  return toHex(new Uint8Array(await subtle().digest("SHA-256", bytes)));
}

/** @param {Uint8Array<ArrayBuffer>} bytes */
export async function sha384(bytes) {
  return new Uint8Array(await subtle().digest("SHA-384", bytes));
}

/**
 * Whether an Ed25519 signature (RFC 8032) is valid.
 * @param {Uint8Array<ArrayBuffer>} publicKey
 * @param {Uint8Array<ArrayBuffer>} signature
 * @param {Uint8Array<ArrayBuffer>} message
 */
export async function ed25519Holds(publicKey, signature, message) {
  const library = subtle();
  let key;
  try {
    key = await library.importKey("raw", publicKey, { name: "Ed25519" }, false, ["verify"]);
  } catch (error) {
    if (error.name !== "NotSupportedError") throw error;
    throw new NotMadeError("this browser has no Ed25519; Chromium 137, Firefox 129, Safari 17 and later have it");
  }
  return library.verify({ name: "Ed25519" }, key, signature, message);
}
