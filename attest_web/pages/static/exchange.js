/** The checks of a signed request and response that a browser can make. */

import { bytesOfHex, ed25519Holds, sha256Hex } from "./bytes.js";
import { FailedError, failures, make, notMade, NotMadeError } from "./checks.js";
import { parseJson } from "./json.js";
import { checkForm } from "./secp256k1.js";

const TEXT = /^(?:([^]*):)?([0-9a-f]{64}):([0-9a-f]{64})$/;

/**
 * @typedef {object} Known
 * @property {string} model - The model that this page names.
 * @property {{ecdsa: string, ed25519: string}} addresses - The addresses that this page names.
 * @property {{ecdsa: boolean, ed25519: boolean} | null} attested - Whether each key's binding holds; null: not checked.
 * @property {boolean} [dev] - Whether this page says that they are keys of a development run.
 */

/**
 * Check a request and its response.
 * @param {{ecdsa: string, ed25519: string}} signatures - The server's responses, JSON.
 * @param {Uint8Array<ArrayBuffer> | null} request - The body, if it is to be compared.
 * @param {Uint8Array<ArrayBuffer> | null} response - The body, if it is to be compared.
 * @param {Known} known
 * @returns {Promise<{checks: import("./checks.js").Check[], verdict: {holds: boolean | null, text: string}}>}
 */
export async function checkExchange(signatures, request, response, known) {
  let ecdsa, ed25519;
  const text = await make("signed text", () => {
    ecdsa = parseJson(signatures.ecdsa, "the server's response about the ECDSA signature");
    ed25519 = parseJson(signatures.ed25519, "the server's response about the Ed25519 signature");
    return signedText(ecdsa, ed25519, known.model);
  });
  const hashes = text.status === "holds" ? TEXT.exec(ed25519.text) : [];
  const signature = await make("ed25519 signature", () => signatureHolds(ed25519, known.addresses.ed25519));
  const ecdsaSigner = await make("ecdsa signer", () => named(ecdsa.signing_address, known.addresses.ecdsa));
  const checks = [
    text,
    await hashCheck("request hash", request, hashes[2]),
    await hashCheck("response hash", response, hashes[3]),
    signature,
    ecdsaSigner,
    await make("ecdsa signature", () => ecdsaNotMade(ecdsa.signature)),
    await make("keys attested", () => keysAttested(known)),
  ];
  return { checks, verdict: verdictOf(checks, signature, known) };
}

function verdictOf(checks, signature, { attested, dev }) {
  const failed = failures(checks);
  if (failed.length) return { holds: false, text: `✗ This does not hold: ${failed.join(", ")}.` };
  if (signature.status !== "holds") {
    return { holds: null, text: "– Not shown: nothing speaks against it, but this browser cannot check the signature." };
  }
  const missing = checks.filter((check) => check.name.endsWith(" hash") && check.status === "not made");
  if (missing.length) {
    const what = missing.map((check) => check.name.replace(" hash", "")).join(" and the ");
    return { holds: null, text: `– The signature is true. Whether it is about what you saw: give the ${what}, too.` };
  }
  const unknown = dev
    ? ". Who has signed is another matter: this is a development run, its hardware is simulated, and nothing vouches for the keys."
    : ", by whoever has these keys. Whose they are, the attestation above tells.";
  const whose = attested && !dev ? "." : unknown;
  return { holds: true, text: `✓ They match: exactly this answer was given to exactly this request${whose}` };
}

function signedText(ecdsa, ed25519, model) {
  if (typeof ed25519.text !== "string" || ecdsa.text !== ed25519.text) {
    throw new FailedError("the two signatures are over different texts");
  }
  const found = TEXT.exec(ed25519.text);
  if (found === null) throw new FailedError("it is not two hashes");
  if (found[1] !== undefined && found[1] !== model) throw new FailedError(`it is about the model ${found[1]}, not ${model}`);
  return ed25519.text;
}

function hashCheck(name, bytes, signed) {
  if (bytes === null) return notMade(name, "nothing was given to compare it with");
  return make(name, async () => {
    const computed = await sha256Hex(bytes);
    if (signed === undefined) throw new FailedError("no hash was signed to compare it with");
    const size = `${bytes.length} bytes`;
    if (computed !== signed) throw new FailedError(`SHA-256 of these ${size} is ${computed}; signed was ${signed}`);
    return `SHA-256 ${computed}, ${size}`;
  });
}

async function signatureHolds(ed25519, address) {
  named(ed25519.signing_address, address);
  const key = bytesOfHex(ed25519.signing_address, "the key");
  const signature = bytesOfHex(ed25519.signature, "the signature");
  if (key.length !== 32 || signature.length !== 64) throw new FailedError("key or signature have the wrong length");
  if (!(await ed25519Holds(key, signature, new TextEncoder().encode(ed25519.text)))) {
    throw new FailedError(`this key has not signed this text: ${address}`);
  }
  return `by ${address}`;
}

function named(signer, address) {
  if (signer !== address) {
    throw new FailedError(`signed by ${signer}, which is not the key that this page names`);
  }
  return `${address}, which this page names`;
}

function ecdsaNotMade(signature) {
  checkForm(signature);
  throw new NotMadeError("browsers have no secp256k1, tee-verify has: see below");
}

function keysAttested({ attested, dev }) {
  if (dev) throw new NotMadeError("a development run: its hardware is simulated, and nothing vouches for its keys");
  if (attested === null) throw new NotMadeError("check the attestation above first");
  const without = Object.keys(attested).filter((algo) => !attested[algo]);
  if (without.length) throw new FailedError(`the quote above does not stand for this key: ${without.join(", ")}`);
  return "the quotes above are about them";
}
