/** Requests to the server of this page, and to no other. */

import { FailedError } from "./checks.js";

/** The server's response settles the verdict; the message is the whole verdict. */
export class SettledError extends FailedError {}

/**
 * Fetch a proof page.
 * @param {string} path - Relative to this page, each part encoded, with the query.
 * @param {{token: string, seconds: number, signal: AbortSignal}} how - Token, if any; timeout; abort signal.
 * @returns {Promise<string>} The JSON text.
 * @throws {SettledError} The token was rejected, or the exchange is not signed.
 * @throws {FailedError} The page could not be fetched for another reason; the message says which.
 */
export async function ask(path, { token, seconds, signal }) {
  const url = new URL(path, document.baseURI);
  // An id of dots alone is a relative path segment and would lead to another page.
  if (!(url.pathname + url.search).endsWith(`/${path}`)) throw new FailedError("this id cannot be part of an address");
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
    if (!token) throw new FailedError("the server requires an access token: enter it above");
    throw new SettledError("The token was rejected. Enter the one that you use the model with, above");
  }
  const { message, code } = errorIn(body);
  if (code === "not_signed") throw new SettledError(`Not signed: ${message ?? "the server does not say why"}`);
  throw new FailedError(message ?? `the server responded with status ${response.status}`);
}

/** A header's bytes, written as the characters with the same numbers (Fetch, 5.1). */
function asHeader(token) {
  return String.fromCharCode(...new TextEncoder().encode(token));
}

/** The code and message in the body of an error; untrusted, so they are shown as plain text. */
function errorIn(body) {
  try {
    const { message, code } = JSON.parse(body).error;
    return { message: typeof message === "string" ? message : undefined, code };
  } catch {
    return {};
  }
}
