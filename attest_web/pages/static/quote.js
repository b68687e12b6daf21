/**
 * Parses a TDX quote's header and body (Intel TDX DCAP Quoting Library API, A.3, "Version 4").
 *
 * Parsing does not prove the quote's origin.
 */

import { FailedError } from "./checks.js";

const HEADER_BYTES = 48;
const BODY_BYTES = 584;
const REGISTER_BYTES = 48;

const VERSION = 4;
const ECDSA_P256 = 2;
const TEE_TYPE_TDX = 0x81;

// Offsets in the body.
const TD_ATTRIBUTES = 120;
const MRTD = 136;
const MRCONFIGID = 184;
const RTMR0 = 328;
const REPORT_DATA = 520;

/**
 * @typedef {object} Quote
 * @property {Uint8Array} reportData - 64 bytes, chosen by the TD.
 * @property {Uint8Array} attributes - 8 bytes; the first is zero unless the TD can be debugged.
 * @property {Uint8Array[]} registers - MRTD and RTMR0 to RTMR3, 48 bytes each.
 * @property {Uint8Array[]} rtmrs - RTMR0 to RTMR3 alone.
 * @property {Uint8Array} mrConfigId - 48 bytes, chosen by the host when it made the TD.
 */

/**
 * Parse a quote.
 * @param {Uint8Array<ArrayBuffer>} bytes
 * @returns {Quote}
 * @throws {FailedError} It is too short, or of another kind.
 */
export function parseQuote(bytes) {
  if (bytes.length < HEADER_BYTES + BODY_BYTES) throw new FailedError(`the quote is only ${bytes.length} bytes long`);
  const header = new DataView(bytes.buffer, 0, HEADER_BYTES);
  const kind = [header.getUint16(0, true), header.getUint16(2, true), header.getUint32(4, true)];
  if (kind[0] !== VERSION || kind[1] !== ECDSA_P256 || kind[2] !== TEE_TYPE_TDX) {
    throw new FailedError(`this is not a TDX quote of version ${VERSION} (version, key type and TEE type are ${kind})`);
  }
  const body = bytes.subarray(HEADER_BYTES, HEADER_BYTES + BODY_BYTES);
  const register = (offset) => body.subarray(offset, offset + REGISTER_BYTES);
  const rtmrs = [0, 1, 2, 3].map((number) => register(RTMR0 + number * REGISTER_BYTES));
  return {
    reportData: body.subarray(REPORT_DATA),
    attributes: body.subarray(TD_ATTRIBUTES, TD_ATTRIBUTES + 8),
    registers: [register(MRTD), ...rtmrs],
    rtmrs,
    mrConfigId: register(MRCONFIGID),
  };
}
