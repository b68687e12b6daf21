/** Questions to the server that this page is from, and to no other. */

import { FailedError } from "./checks.js";

/**
 * Ask for a proof page.
 * @param {string} path - Relative to this page, each part encoded, with the query.
 * @param {{token: string, seconds: number, signal: AbortSignal}} how - The token, if any; how long to wait; what ends it.
 * @returns {Promise<string>} The JSON as it came.
 * @throws {FailedError} There is none; the message says why.
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
  if (response.status === 401) throw new FailedError("the server wants a valid access token: enter it above");
  if (!response.ok) throw new FailedError(reason(body) ?? `the server answered with the status ${response.status}`);
  return body;
}

/** A header holds bytes, which scripts write as the characters of these numbers (Fetch, 5.1). */
function asHeader(token) {
  return String.fromCharCode(...new TextEncoder().encode(token));
}

function reason(body) {
  try {
    const { message } = JSON.parse(body).error;
    return typeof message === "string" ? message : null;
  } catch {
    return null;
  }
}
