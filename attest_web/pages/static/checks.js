/** Checks and their outcomes, with tee-verify's names. */

/** A check fails; the message says why. */
export class FailedError extends Error {}

/** A check could not be made; the message says why. */
export class NotMadeError extends Error {}

const MAX_DETAIL = 400;

/**
 * A server's text, made safe to show in the same way as in tee-verify: shortened, and without control characters.
 * @param {string} text
 */
export function printable(text) {
  const shown = text.length > MAX_DETAIL ? `${text.slice(0, MAX_DETAIL)}…` : text;
  return shown.replace(/\p{C}/gu, "\ufffd");
}

/** @typedef {{name: string, status: "holds" | "fails" | "not made", detail: string}} Check */

/**
 * Make a check.
 * @param {string} name - What is checked.
 * @param {() => string | Promise<string>} check - Returns what was found; throws one of the errors above.
 * @returns {Promise<Check>}
 */
export async function make(name, check) {
  try {
    return { name, status: "holds", detail: await check() };
  } catch (error) {
    if (error instanceof NotMadeError) return notMade(name, error.message);
    // Any other error means that the input is malformed, so the check fails.
    const detail = error instanceof FailedError ? error.message : "the response cannot be read";
    return { name, status: "fails", detail };
  }
}

/**
 * A check that a browser cannot make.
 * @returns {Check}
 */
export function notMade(name, detail) {
  return { name, status: "not made", detail };
}

/**
 * The names of the checks that fail.
 * @param {Check[]} checks
 */
export function failures(checks) {
  return checks.filter((check) => check.status === "fails").map((check) => check.name);
}
