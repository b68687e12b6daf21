/**
 * A strict JSON parser.
 *
 * JSON.parse takes the last of two members with one name, other parsers the first (RFC 8259, 4, leaves it open). It
 * rounds large numbers, and other parsers do not (RFC 8259, 6). An ambiguous text proves nothing, so it is rejected.
 */

import { FailedError } from "./checks.js";

/**
 * Parse a JSON text.
 * @param {unknown} text
 * @param {string} what - Name of the text, for the error.
 * @throws {FailedError} It is not JSON, an object in it has two members of one name, or a number is too large.
 */
export function parseJson(text, what) {
  let value;
  try {
    if (typeof text !== "string") throw new SyntaxError();
    value = JSON.parse(text);
  } catch {
    throw new FailedError(`${what} is not JSON`);
  }
  refuseAmbiguity(text, what);
  return value;
}

/** Scan a text that is known to be JSON. */
function refuseAmbiguity(text, what) {
  const token = /["{}[\],]|-?\d[\d.eE+-]*/g;
  const open = []; // one entry for each open container: the names so far of an object, null for a list
  let isName = false;
  for (let found; (found = token.exec(text)) !== null; ) {
    switch (found[0]) {
      case '"': {
        token.lastIndex = endOfString(text, found.index);
        if (isName) addName(open.at(-1), JSON.parse(text.slice(found.index, token.lastIndex)), what);
        isName = false;
        break;
      }
      case "{":
        open.push(new Set());
        isName = true;
        break;
      case "[":
        open.push(null);
        isName = false;
        break;
      case ",":
        isName = open.at(-1) !== null;
        break;
      case "}":
      case "]":
        open.pop();
        isName = false;
        break;
      default:
        if (Math.abs(Number(found[0])) > Number.MAX_SAFE_INTEGER) {
          throw new FailedError(`${what} has a number too large to be read`);
        }
    }
  }
}

function addName(names, name, what) {
  if (names.has(name)) throw new FailedError(`${what} has an object with more than one ${JSON.stringify(name)}`);
  names.add(name);
}

/** The offset after a string. */
function endOfString(text, start) {
  for (let at = start + 1; ; at++) {
    at = text.indexOf('"', at);
    let backslashes = 0;
    while (text[at - 1 - backslashes] === "\\") backslashes++;
    if (backslashes % 2 === 0) return at + 1;
  }
}

/**
 * Whether two values that were parsed from JSON are equal, ignoring the order of members.
 * @param {any} one
 * @param {any} other
 */
export function isSame(one, other) {
  if (one === null || typeof one !== "object") return Object.is(one, other);
  if (other === null || typeof other !== "object" || Array.isArray(one) !== Array.isArray(other)) return false;
  const names = Object.keys(one);
  return (
    names.length === Object.keys(other).length &&
    names.every((name) => Object.hasOwn(other, name) && isSame(one[name], other[name]))
  );
}
