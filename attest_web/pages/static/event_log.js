/**
 * Replays the event log of the run-time measurement registers (RTMR) in a quote.
 *
 * A register starts as zeros, and every event extends it: register = SHA-384(register ‖ digest). That proves the
 * digests of the events, not their other fields. Name and payload of dstack's own events, which are those of RTMR3,
 * count only because their digest is computed from them. Since dstack 0.5.6, the log lacks these digests.
 */

import { bytesOfHex, sha384, toHex } from "./bytes.js";
import { FailedError } from "./checks.js";
import { parseJson } from "./json.js";

export const REGISTERS = 4;
export const RUNTIME_REGISTER = 3;
const RUNTIME_EVENT_TYPE = 0x08000001;
const REGISTER_BYTES = 48;
const MAX_EVENTS = 4096;

/**
 * @typedef {object} Event
 * @property {number} register - The RTMR that it extended, 0 to 3.
 * @property {Uint8Array<ArrayBuffer>} digest - 48 bytes.
 * @property {string} name - In RTMR3, bound by the digest.
 * @property {Uint8Array<ArrayBuffer>} payload - In RTMR3, bound by the digest.
 */

/**
 * Parse a log.
 * @param {unknown} source - A list of events, or the JSON text of one.
 * @returns {Promise<Event[]>}
 * @throws {FailedError} An event is malformed, or differs from what was measured.
 */
export async function parseEventLog(source) {
  const entries = typeof source === "string" ? parseJson(source, "the event log") : source;
  if (!Array.isArray(entries)) throw new FailedError("the event log is not a list");
  if (entries.length > MAX_EVENTS) throw new FailedError(`the event log has ${entries.length} events: too many`);
  return Promise.all(entries.map((entry, number) => parseEvent(entry, `event ${number} of the event log`)));
}

/**
 * Check that the events replay to a register of the quote.
 * @param {Event[]} events
 * @param {number} register - Which RTMR, 0 to 3.
 * @param {import("./quote.js").Quote} quote
 * @returns {Promise<string>} What was found.
 * @throws {FailedError} They replay to another value.
 */
export async function checkReplay(events, register, quote) {
  const digests = events.filter((event) => event.register === register).map((event) => event.digest);
  let value = new Uint8Array(REGISTER_BYTES);
  for (const digest of digests) value = await sha384(joined(value, digest));
  const [count, gives, quoted] = [digests.length, toHex(value), toHex(quote.rtmrs[register])];
  if (gives !== quoted) throw new FailedError(`its ${count} events in the log give ${gives}, the quote has ${quoted}`);
  return `${count} events give ${quoted}`;
}

async function parseEvent(entry, what) {
  const { imr: register, event_type: type, event: name, digest: stated } = entry;
  if (!Number.isInteger(register) || register < 0 || register >= REGISTERS) {
    throw new FailedError(`${what} is of register ${register}, and there are 0 to ${REGISTERS - 1}`);
  }
  if (!Number.isInteger(type)) throw new FailedError(`the type of ${what} is not an integer`);
  if (typeof name !== "string" || !name.isWellFormed()) throw new FailedError(`the name of ${what} is not a text`);
  const payload = bytesOfHex(entry.event_payload, `the payload of ${what}`);
  if ((type === RUNTIME_EVENT_TYPE) !== (register === RUNTIME_REGISTER)) {
    // The digest of an event of another type does not bind its name: with one, a TD could hide a second compose file.
    throw new FailedError(`${what} is of type 0x${type.toString(16)}, which RTMR${register} does not have`);
  }
  if (register !== RUNTIME_REGISTER) return { register, digest: statedDigest(stated, what), name, payload };
  const digest = await sha384(measuredBytes(name, payload, entry, what));
  if ((stated ?? "") !== "" && toHex(statedDigest(stated, what)) !== toHex(digest)) {
    throw new FailedError(`the digest of ${what} (${name}) is not that of its name and payload`);
  }
  return { register, digest, name, payload };
}

/** The preimage of the digest of one of dstack's own events. */
function measuredBytes(name, payload, { version, preimage }, what) {
  const encoder = new TextEncoder();
  if ((version ?? 1) === 1) return joined(Uint8Array.of(1, 0, 0, 8), encoder.encode(`:${name}:`), payload);
  if (version !== 2) throw new FailedError(`${what} is of version ${version}; 1 and 2 are known`);
  // With its members sorted, an object of texts and integers is canonical as JSON.stringify writes it (RFC 8785, 3.2).
  const canonical = encoder.encode(JSON.stringify({ name, payload: toHex(payload), type: RUNTIME_EVENT_TYPE }));
  if ((preimage ?? "") !== "" && toHex(bytesOfHex(preimage, `the preimage of ${what}`)) !== toHex(canonical)) {
    throw new FailedError(`the preimage of ${what} (${name}) is not the canonical JSON of its name and payload`);
  }
  return canonical;
}

function statedDigest(digits, what) {
  const digest = bytesOfHex(digits, `the digest of ${what}`);
  if (digest.length === 0 || digest.length > REGISTER_BYTES) {
    throw new FailedError(`the digest of ${what} is ${digest.length} bytes long, not 1 to ${REGISTER_BYTES}`);
  }
  return joined(digest, new Uint8Array(REGISTER_BYTES - digest.length));
}

function joined(...parts) {
  return Uint8Array.from(parts.flatMap((part) => [...part]));
}
