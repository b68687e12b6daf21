/**
 * The guest's own measurements at boot: the events of RTMR3 up to the first system-ready.
 *
 * The events that follow are the app's, with any name and payload. A digest of version 1 does not mark where the name
 * ends: the event "compose-hash" with the payload ":…" can be presented as "compose-hash:" with the payload "…". So the
 * parser requires exactly the order, the names and the payload lengths of dstack's guest (as of 0.6).
 */

import { toHex } from "./bytes.js";
import { FailedError } from "./checks.js";
import { RUNTIME_REGISTER } from "./event_log.js";

const APP_ID_BYTES = 20;
const SHA256_BYTES = 32;
const MAX_JSON = 4096;
const LAST_EVENT = "system-ready";

const SHA256 = (payload) => payload.length === SHA256_BYTES;
const EMPTY = (payload) => payload.length === 0;
const JSON_TEXT = (payload) => payload.length > 0 && payload.length <= MAX_JSON;

/** Name, minimum and maximum number of occurrences, and allowed payloads of each event. */
const GRAMMAR = [
  ["system-preparing", 1, 1, EMPTY],
  ["app-id", 1, 1, (payload) => payload.length === APP_ID_BYTES],
  ["compose-hash", 1, 1, SHA256],
  ["init-script-hash", 0, 5, SHA256],
  ["gpu-policy-hash", 0, 1, SHA256],
  ["gpu-attestation", 0, 1, JSON_TEXT],
  ["instance-id", 1, 1, (payload) => EMPTY(payload) || payload.length === APP_ID_BYTES],
  ["boot-mr-done", 1, 1, EMPTY],
  ["mr-kms", 0, 8, SHA256],
  ["os-image-hash", 0, 1, SHA256],
  ["key-provider", 1, 1, JSON_TEXT],
  ["storage-fs", 0, 1, (payload) => ["zfs", "ext4"].includes(asText(payload))],
  [LAST_EVENT, 1, 1, EMPTY],
];

const KEY_PROVIDER = /^\{"name":"(kms|local-sgx|tpm|none)","id":"((?:[0-9a-f]{2}){0,1024})"\}$/;
const KINDS_WITH_ID = ["kms", "local-sgx"];

/**
 * @typedef {object} BootLog
 * @property {string} appId - 20 bytes, in hex, like all other members. The host may choose it.
 * @property {string} composeHash - 32 bytes.
 * @property {string[]} initScriptHashes - 32 bytes each.
 * @property {string | undefined} gpuPolicyHash - 32 bytes.
 * @property {string} instanceId - 20 bytes, or empty.
 * @property {{kind: string, id: string}} keyProvider - The provider of the keys. The id of a KMS is its CA key as DER.
 */

/**
 * Parse the boot section of a log that replays to the quoted RTMR3.
 * @param {import("./event_log.js").Event[]} events
 * @returns {BootLog}
 * @throws {FailedError} It has another form than dstack's.
 */
export function parseBootLog(events) {
  const runtime = events.filter((event) => event.register === RUNTIME_REGISTER);
  const found = Object.fromEntries(GRAMMAR.map(([name]) => [name, []]));
  let at = 0;
  for (const [name, least, most, allowed] of GRAMMAR) {
    for (; runtime[at]?.name === name && found[name].length < most; at++) {
      const { payload } = runtime[at];
      if (!allowed(payload)) throw new FailedError(`${name} in the boot log has a payload that it cannot have`);
      found[name].push(payload);
    }
    if (found[name].length < least) {
      const instead = at < runtime.length ? runtime[at].name : "nothing";
      throw new FailedError(`the boot log has ${instead} where ${name} should be`);
    }
  }
  const first = (name) => (found[name].length ? toHex(found[name][0]) : undefined);
  return {
    appId: first("app-id"),
    composeHash: first("compose-hash"),
    initScriptHashes: found["init-script-hash"].map(toHex),
    gpuPolicyHash: first("gpu-policy-hash"),
    instanceId: first("instance-id"),
    keyProvider: keyProvider(found["key-provider"][0]),
  };
}

function keyProvider(payload) {
  const [, kind, id] = KEY_PROVIDER.exec(asText(payload)) ?? [];
  if (kind === undefined || KINDS_WITH_ID.includes(kind) !== (id !== "")) {
    throw new FailedError("the key provider in the boot log is not of dstack's form");
  }
  return { kind, id };
}

/** The bytes as text, one character for each byte: the texts are ASCII. */
function asText(payload) {
  return String.fromCharCode(...payload);
}
