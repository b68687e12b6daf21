/** Questions to the server that this page is from, and to no other. */

import { FailedError } from "./checks.js";

/** The server has answered what there is to say; the message is all of the verdict. */
export class SettledError extends FailedError {}

/**
 * Ask for a proof page.
 * @param {string} path - Relative to this page, each part encoded, with the query.
 * @param {{token: string, seconds: number, signal: AbortSignal}} how - The token, if any; how long to wait; what ends it.
 * @returns {Promise<string>} The JSON as it came.
 * @throws {SettledError} The token was refused, or the exchange was seen and not signed.
 * @throws {FailedError} There is no such page for another reason; the message says which.
 */
export async function ask(path, { token, seconds, signal }) {
  const url = new URL(path, document.baseURI);
  // An id of dots alone would be taken for a step up, to some other page.
  if (!(url.pathname + url.search).endsWith(`/${path}`)) throw new FailedError("nothing can be asked under this id");
  const headers = token ? { Authorization: `Bearer ${asHeader(token)}` } : {};
  const limit = AbortSignal.timeout(seconds * 1000);
  let response, body;
  try {
    response = await fetch(url, {
      headers,
      signal: AbortSignal.any([signal, limit]),
      cache: "no-store",
      credentials: "omit",
      redirect: "error",
      referrerPolicy: "no-referrer",
    });
    body = await response.text();
  } catch (error) {
    signal.throwIfAborted();
    throw new FailedError(limit.aborted ? "the server did not answer in time" : "the server cannot be reached");
  }
  if (response.ok) return body;
  if (response.status === 401) {
    if (!token) throw new FailedError("the server wants an access token: enter it above");
    throw new SettledError("The token was refused. Enter the one that you use the model with, above");
  }
  const { message, code } = errorIn(body);
  if (code === "not_signed") throw new SettledError(`Not signed: ${message ?? "the server does not say why"}`);
  throw new FailedError(message ?? `the server answered with the status ${response.status}`);
}

/** A header holds bytes, which scripts write as the characters of these numbers (Fetch, 5.1). */
function asHeader(token) {
  return String.fromCharCode(...new TextEncoder().encode(token));
}

/** What the body of an error says; nothing of it is believed, and it is shown as text alone. */
function errorIn(body) {
  try {
    const { message, code } = JSON.parse(body).error;
    return { message: typeof message === "string" ? message : undefined, code };
  } catch {
    return {};
  }
}
