/**
 * The form of an ECDSA signature on secp256k1, which browsers cannot verify.
 *
 * Of two signatures that hold, (r, s) and (r, n - s), which can be made of each other without the key, signers make the
 * one with the low s (EIP-2), and nothing else is taken.
 */

import { FailedError } from "./checks.js";

/** Of the group, n (SEC 2, 2.4.1). */
const ORDER = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n;

const SIGNATURE = /^0x([0-9a-f]{64})([0-9a-f]{64})(1b|1c)$/;

/**
 * Check the form of a signature: 0x, r, s and v, which is 27 or 28.
 * @param {unknown} signature
 * @throws {FailedError} It has another one.
 */
export function checkForm(signature) {
  const found = typeof signature === "string" ? SIGNATURE.exec(signature) : null;
  if (found === null) throw new FailedError("it is not 0x, r, s and v (27 or 28) in lower-case hex");
  for (const [at, name] of ["r", "s"].entries()) {
    const value = BigInt(`0x${found[at + 1]}`);
    if (value === 0n || value >= ORDER) throw new FailedError(`its ${name} is not between 1 and the order of the group`);
    if (name === "s" && value > ORDER / 2n) {
      throw new FailedError("its s is high: anybody can make it so of the true signature, which has a low s");
    }
  }
}
