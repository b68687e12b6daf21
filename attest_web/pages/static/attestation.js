/** The checks of an attestation report that a browser can make. */

import { fromBase64, fromHex, toHex } from "./bytes.js";
import { FailedError, make, notMade, NotMadeError } from "./checks.js";
import { checkGuest } from "./guest.js";
import { isSame, parseJson } from "./json.js";
import { parseQuote } from "./quote.js";

const CANNED_NONCE = "931d8dd0add203ac3d8b4fbde75e115278eefcdceac5b87671a748f32364dfcb";
const GET_MEASUREMENTS = 0xe0;

/** Lists that repeat the report: some verifiers read only these. */
const LISTS = ["all_attestations", "model_attestations"];

/**
 * Check a report.
 * @param {"ecdsa" | "ed25519"} algo - The algorithm of the key in the request.
 * @param {string} json - The report.
 * @param {{nonce: string, address: string, dev?: boolean}} expected - What it must be about, in hex; `dev`: whether this
 *   page says that its keys are those of a development run.
 * @returns {Promise<{checks: import("./checks.js").Check[], binds: boolean, quote: import("./quote.js").Quote | null}>}
 *   `binds`: whether the quote, if it is genuine, binds the key to a TD that the host cannot read; false where it shows
 *   that the host has the keys.
 */
export async function checkReport(algo, json, { nonce, address, dev = false }) {
  let report, quote;
  try {
    report = parseReport(json);
    quote = parseQuote(fromHex(report.intel_quote, "the quote"));
  } catch (error) {
    const detail = error instanceof FailedError ? error.message : "the report cannot be read";
    return { checks: [{ name: `${algo} report`, status: "fails", detail }], binds: false, quote: null };
  }
  const binding = [
    await make(`${algo} key`, () => keyIsTheNamedOne(report.signing_address, address)),
    await make(`${algo} address bound`, () => addressBound(quote, address)),
    await make(`${algo} nonce`, () => nonceBound(quote, report.request_nonce, nonce)),
    await make(`${algo} TD debug`, () => debugOff(quote)),
    // A report can leave the statement out, so no check could pass on its absence.
    ...(report.dev ? [await make(`${algo} keys`, () => randomKeys(dev))] : []),
  ];
  const guest = await checkGuest(algo, report, quote);
  const keyProvider = guest.find((check) => check.name === `${algo} key provider`);
  const checks = [
    ...binding,
    ...guest,
    await make(`${algo} GPU nonce`, () => gpuNonces(report.nvidia_payload, nonce)),
    notMade(`${algo} quote signature`, "browsers cannot check Intel's signature, tee-verify can: see below"),
  ];
  const binds = binding.every((check) => check.status === "holds") && keyProvider.status !== "fails";
  return { checks, binds, quote };
}

/**
 * Check that two quotes are of TDs that started the same.
 * @param {(import("./quote.js").Quote | null)[]} quotes
 */
export function sameMeasurements(quotes) {
  return make("measurements", () => {
    const shown = quotes.map((quote) => quote && quote.registers.map(toHex).join());
    if (!shown[0] || shown.some((each) => each !== shown[0])) throw new FailedError("the quotes do not agree about them");
    return "both quotes have the same";
  });
}

/** The report at the top level. Each of the lists, if present, must have this report as its only entry. */
function parseReport(json) {
  const report = parseJson(json, "the report");
  const lists = LISTS.filter((name) => Object.hasOwn(report, name)).map((name) => [name, report[name]]);
  for (const name of LISTS) delete report[name];
  for (const [name, listed] of lists) {
    if (!Array.isArray(listed) || listed.length !== 1 || !isSame(listed[0], report)) {
      throw new FailedError(`${name} has something else than this report alone, and other verifiers read it`);
    }
  }
  return report;
}

function keyIsTheNamedOne(reported, named) {
  if (typeof reported !== "string" || reported.toLowerCase() !== named.toLowerCase()) {
    throw new FailedError(`the report is about ${reported}, this page names ${named}`);
  }
  return `${named}, which this page names`;
}

function addressBound(quote, address) {
  const expected = address.toLowerCase().replace(/^0x/, "").padEnd(64, "0");
  if (toHex(quote.reportData.subarray(0, 32)) !== expected) {
    throw new FailedError(`the quote does not carry ${address}: it is about another key`);
  }
  return `the quote is about this key: its report_data begins with ${address}`;
}

function nonceBound(quote, reported, nonce) {
  const quoted = toHex(quote.reportData.subarray(32));
  if (quoted !== nonce || reported !== nonce) {
    throw new FailedError(`made for ${quoted !== nonce ? quoted : reported}, not for ${nonce}, which your browser generated`);
  }
  return `the quote is fresh: its report_data ends with ${nonce}, which your browser has just generated`;
}

function debugOff(quote) {
  // Bit 0 is DEBUG, and all of bits 0 to 7 make a TD untrusted (Intel TDX Module ABI, "ATTRIBUTES").
  if (quote.attributes[0]) throw new FailedError("the machine's owner can look into this TD");
  return `off (attributes ${toHex(quote.attributes)}): the machine's owner cannot look inside`;
}

function randomKeys(announced) {
  const said = "the report says that they are random keys of a development run (DEV=1)";
  throw new (announced ? NotMadeError : FailedError)(announced ? `${said}, as this page does: no attestation covers them` : said);
}

function gpuNonces(json, nonce) {
  const payload = parseJson(json, "the payload for NVIDIA");
  if (payload.nonce !== nonce) throw new FailedError(`the payload for NVIDIA says ${payload.nonce}, not ${nonce}`);
  const evidence = payload.evidence_list;
  if (!Array.isArray(evidence) || evidence.length === 0) throw new FailedError("there is no evidence of a GPU");
  for (const [number, each] of evidence.entries()) {
    const signed = evidenceNonce(each.evidence);
    if (signed === CANNED_NONCE) throw new FailedError("this is NVIDIA's canned evidence, which no GPU has made");
    if (signed !== nonce) throw new FailedError(`the evidence of GPU ${number} was made for ${signed}, not for ${nonce}`);
  }
  return `the evidence of ${evidence.length} GPU(s) carries the same one; tee-verify asks NVIDIA whether a GPU signed it`;
}

/** The nonce in an SPDM GET_MEASUREMENTS request (DMTF DSP0274, 10.11), with which GPU evidence begins. */
function evidenceNonce(base64) {
  const bytes = fromBase64(base64);
  if (bytes.length < 38 || bytes[1] !== GET_MEASUREMENTS) throw new FailedError("this is not the evidence of a GPU");
  return toHex(bytes.subarray(4, 36));
}
